"""The shapes have every field that the description has, so that a new one is noticed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

import hothouse
from hothouse.shapes.exec import event_of, result_of

SCHEMAS = json.loads((Path(__file__).parents[2] / "api" / "openapi.json").read_text("utf-8"))["components"]["schemas"]
SHAPES = [
    "Capabilities", "Capability", "ClaimFile", "EndedMany", "EndedMember", "Ending", "Event", "ExecResult",
    "ExecStatus", "Failed", "FileInfo", "FilesChanged", "FileWritten", "GroupInfo", "GroupSummary", "Health", "Lease",
    "Outcome", "OutputPiece", "PoolInfo", "PoolPlace", "Resources", "SandboxInfo", "SandboxSpec",
    "ShellInfo", "Truncated", "Usage",
]  # fmt: skip
ELSEWHERE = {
    # How JSON carries bytes, which Python has.
    ("ClaimFile", "encoding"), ("ExecResult", "encoding"), ("OutputPiece", "encoding"),
    # Made into an error: `Failed.error`.
    ("Failed", "problem"),
    # Taken apart into `name`, `template`, `min` and `max`.
    ("PoolInfo", "spec"),
    # Not of what it is made from but of itself: `SandboxInfo.id`.
    ("SandboxSpec", "id"),
}  # fmt: skip


def fields(schema: dict[str, Any]) -> set[str]:
    if "$ref" in schema:
        return fields(SCHEMAS[schema["$ref"].rpartition("/")[2]])
    parts = [*schema.get("allOf", []), *schema.get("oneOf", [])]
    return set(schema.get("properties", {})).union(*(fields(part) for part in parts))


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_has_the_fields_of_the_description(name: str) -> None:
    wanted = {field for field in fields(SCHEMAS[name]) if (name, field) not in ELSEWHERE}
    assert wanted
    assert wanted <= {field.name for field in dataclasses.fields(getattr(hothouse, name))}


def test_a_template_is_made_from_what_a_sandbox_is_made_from_and_more() -> None:
    assert fields(SCHEMAS["TemplateSpec"]) <= {field.name for field in dataclasses.fields(hothouse.SandboxSpec)}


def test_every_operation_of_the_description_is_used() -> None:
    """By the words of its path; a terminal needs a WebSocket, which the SDK has none of, and
    what listens on a port has clients of its own kind."""
    description = json.loads((Path(__file__).parents[2] / "api" / "openapi.json").read_text("utf-8"))
    source = "\n".join(path.read_text("utf-8") for path in Path(hothouse.__file__).parent.glob("_async/*.py"))
    not_used = {
        "/",
        "/metrics",
        "/openapi.json",
        "/readyz",
        "/v1/sandboxes/{sandbox_id}/terminal",
        "/v1/sandboxes/{sandbox_id}/ports/{port}/{path}",
    }
    for path in description["paths"]:
        last = [word for word in path.split("/") if word and not word.startswith("{")]
        assert path in not_used or f"/{last[-1]}" in source, path


RESULT = {
    "exec_id": "e", "outcome": {"kind": "exited", "code": 0}, "stdout": "AP8=", "stderr": "", "encoding": "base64",
    "truncated": {"stdout_dropped_bytes": 0, "stderr_dropped_bytes": 1}, "output_held_open": False,
    "duration_s": 0.5, "usage": {"cpu_user_s": 0.1, "cpu_system_s": 0.2, "max_rss_bytes": 3}, "replayed": True,
}  # fmt: skip


def test_a_result_keeps_exact_bytes() -> None:
    result = result_of(RESULT)
    assert (result.stdout_bytes, result.stdout, result.stderr_bytes) == (b"\0\xff", "\0\ufffd", b"")
    assert result == result_of(json.loads(json.dumps(RESULT)))


def test_an_event_of_a_later_server_is_passed_over() -> None:
    assert event_of("paused", {}) is None
    assert event_of("skipped", {"stream": "stderr", "bytes": 7}) == hothouse.Skipped("stderr", 7)
