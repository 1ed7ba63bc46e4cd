"""Today's HTTP routes of `echo`: each request has an environment of its own."""

from __future__ import annotations

import uuid
from typing import Any

from checks import Report, same
from http_exchange import exchange, less_urls

READY = {
    "observation": {"metadata": {}, "echoed_message": "Echo environment ready!", "message_length": 0},
    "reward": 0.0,
    "done": False,
    "metadata": None,
}

REFUSED: list[tuple[str, str, Any, list[dict[str, Any]]]] = [
    (
        "reset: negative seed",
        "/reset",
        {"seed": -1},
        [
            {
                "type": "greater_than_equal",
                "loc": ["body", "seed"],
                "msg": "Input should be greater than or equal to 0",
                "input": -1,
                "ctx": {"ge": 0},
            }
        ],
    ),
    (
        "reset: seed that is no number",
        "/reset",
        {"seed": "x"},
        [
            {
                "type": "int_parsing",
                "loc": ["body", "seed"],
                "msg": "Input should be a valid integer, unable to parse string as an integer",
                "input": "x",
            }
        ],
    ),
    (
        "reset: long episode_id",
        "/reset",
        {"episode_id": "e" * 256},
        [
            {
                "type": "string_too_long",
                "loc": ["body", "episode_id"],
                "msg": "String should have at most 255 characters",
                "input": "e" * 256,
                "ctx": {"max_length": 255},
            }
        ],
    ),
    (
        "reset: array",
        "/reset",
        [],
        [
            {
                "type": "model_attributes_type",
                "loc": ["body"],
                "msg": "Input should be a valid dictionary or object to extract fields from",
                "input": [],
            }
        ],
    ),
    (
        "step: no action",
        "/step",
        {},
        [{"type": "missing", "loc": ["body", "action"], "msg": "Field required", "input": {}}],
    ),
    (
        "step: action that is no object",
        "/step",
        {"action": "x"},
        [
            {
                "type": "dict_type",
                "loc": ["body", "action"],
                "msg": "Input should be a valid dictionary",
                "input": "x",
            }
        ],
    ),
    (
        "step: no time",
        "/step",
        {"action": {"message": "x"}, "timeout_s": 0},
        [
            {
                "type": "greater_than",
                "loc": ["body", "timeout_s"],
                "msg": "Input should be greater than 0",
                "input": 0,
                "ctx": {"gt": 0.0},
            }
        ],
    ),
    # What the environment itself says of an action is not below "body".
    (
        "step: fields of another environment",
        "/step",
        {"action": {"x": 1}},
        [
            {"type": "missing", "loc": ["message"], "msg": "Field required", "input": {"x": 1}},
            {"type": "extra_forbidden", "loc": ["x"], "msg": "Extra inputs are not permitted", "input": 1},
        ],
    ),
    (
        "step: field of the wrong type",
        "/step",
        {"action": {"message": 5}},
        [{"type": "string_type", "loc": ["message"], "msg": "Input should be a valid string", "input": 5}],
    ),
]


def run(report: Report, url: str) -> None:
    """Every route with what it takes and what it refuses."""
    told(report, url)
    played(report, url)
    for name, path, body, errors in REFUSED:
        with report.check(f"refused: {name}"):
            answer = exchange(url, "POST", path, body)
            same((answer.status, less_urls(answer.json())), (422, {"detail": errors}))
    malformed(report, url)
    for method, path, allow in [
        ("GET", "/step", "POST"),
        ("GET", "/reset", "POST"),
        ("POST", "/state", "GET"),
        ("HEAD", "/health", "GET"),
        ("GET", "/mcp", "POST"),
    ]:
        with report.check(f"wrong method: {method} {path}"):
            answer = exchange(url, method, path)
            same((answer.status, answer.headers.get("allow")), (405, allow))
            if method != "HEAD":
                same(answer.json(), {"detail": "Method Not Allowed"})
    # Not / and /web: there is a page of ours.
    for path in ["/nowhere", "/ws"]:
        with report.check(f"unknown path: GET {path}"):
            answer = exchange(url, "GET", path)
            same((answer.status, answer.json()), (404, {"detail": "Not Found"}))


def told(report: Report, url: str) -> None:
    """What a server says about itself."""
    with report.check("health"):
        answer = exchange(url, "GET", "/health")
        same((answer.status, answer.text), (200, '{"status":"healthy"}'))
    with report.check("metadata"):
        metadata = exchange(url, "GET", "/metadata").json()
        same(
            sorted(metadata), ["author", "description", "documentation_url", "name", "readme_content", "version"]
        )
        same(metadata["name"], "EchoEnvironment")
        # An author's openenv.yaml may say another version than the original's 1.0.0, which it gives for all.
        assert metadata["version"] and metadata["description"], metadata
    with report.check("schema"):
        schema = exchange(url, "GET", "/schema").json()
        same(sorted(schema), ["action", "observation", "reset_observation", "state"])
        # Trainers tell environments of tools from others by this title.
        same(schema["action"]["title"], "EchoAction")
        same(sorted(schema["action"]["properties"]), ["message", "metadata"])
        same((schema["action"]["required"], schema["action"]["additionalProperties"]), (["message"], False))
        same(schema["action"]["properties"]["message"]["type"], "string")
        same(
            sorted(schema["observation"]["properties"]),
            ["done", "echoed_message", "message_length", "metadata", "reward"],
        )
        same(schema["observation"]["additionalProperties"], False)
        same(schema["reset_observation"], schema["observation"])
        same(sorted(schema["state"]["properties"]), ["episode_id", "step_count"])
        same(schema["state"]["additionalProperties"], True)
    with report.check("openapi.json"):
        openapi = exchange(url, "GET", "/openapi.json").json()
        same((openapi["info"]["title"], openapi["info"]["version"]), ("OpenEnv Environment HTTP API", "1.0.0"))
        assert openapi["openapi"].startswith("3."), openapi["openapi"]
        wanted = {"/reset": "post", "/step": "post", "/state": "get", "/health": "get", "/schema": "get"}
        wanted |= {"/metadata": "get", "/mcp": "post"}
        same({path: method for path, method in wanted.items() if method in openapi["paths"].get(path, {})}, wanted)
    for path in ["/docs", "/redoc"]:
        with report.check(f"page {path}"):
            answer = exchange(url, "GET", path)
            same((answer.status, answer.headers["content-type"]), (200, "text/html; charset=utf-8"))
            assert "openapi.json" in answer.text, answer
    with report.check("tasks"):
        answer = exchange(url, "GET", "/list_environments")
        same((answer.status, answer.json()), (200, ["echo"]))
        answer = exchange(url, "GET", "/ECHO/splits")
        same(
            (answer.status, answer.json()), (501, {"detail": "list_splits is not supported for this environment"})
        )
        answer = exchange(url, "POST", "/other/tasks", {"split": "train"})
        same((answer.status, answer.json()), (404, {"detail": "unknown environment 'other'"}))


def played(report: Report, url: str) -> None:
    """Reset, step and state."""
    for name, body in {
        "empty": {},
        "no body": None,
        "seed": {"seed": 7},
        "seed as text": {"seed": "42"},
        "nulls": {"seed": None, "episode_id": None},
        "more": {"anything": [1, {"else": None}]},
    }.items():
        with report.check(f"reset: {name}"):
            answer = exchange(url, "POST", "/reset", body)
            same((answer.status, answer.json()), (200, READY))
    for name, extra in {
        "plain": {},
        "with a timeout": {"timeout_s": 15},
        "with a request's id": {"request_id": "r1"},
        "with more": {"anything": 1},
    }.items():
        with report.check(f"step: {name}"):
            answer = exchange(url, "POST", "/step", {"action": {"message": "abc"}, **extra})
            said = {"original_message": "abc", "step": 1}
            same(
                (answer.status, answer.json()),
                (
                    200,
                    {
                        "observation": {"metadata": said, "echoed_message": "abc", "message_length": 3},
                        "reward": 0.30000000000000004,
                        "done": False,
                        "metadata": said,
                    },
                ),
            )
    with report.check("floats keep their point"):
        answer = exchange(url, "POST", "/step", {"action": {"message": "Hello, World!"}})
        assert '"reward":1.0,' in answer.text, answer
    with report.check("text is not escaped"):
        answer = exchange(url, "POST", "/step", {"action": {"message": "h\u00e9\U0001f642"}})
        assert '"echoed_message":"h\u00e9\U0001f642"' in answer.text, answer
    with report.check("state is a new environment's"):
        first, second = (exchange(url, "GET", "/state").json() for _ in range(2))
        same(sorted(first), ["episode_id", "step_count"])
        same((first["step_count"], str(uuid.UUID(first["episode_id"]))), (0, first["episode_id"]))
        assert first["episode_id"] != second["episode_id"], first


def malformed(report: Report, url: str) -> None:
    """Bodies that are not what they should be at all."""
    with report.check("refused: no JSON"):
        answer = exchange(url, "POST", "/step", b"{oops")
        error = {
            "type": "json_invalid",
            "loc": ["body", 1],
            "msg": "JSON decode error",
            "input": {},
            "ctx": {"error": "Expecting property name enclosed in double quotes"},
        }
        same((answer.status, answer.json()), (422, {"detail": [error]}))
    with report.check("refused: no body"):
        answer = exchange(url, "POST", "/step")
        error = {"type": "missing", "loc": ["body"], "msg": "Field required", "input": None}
        same((answer.status, less_urls(answer.json())), (422, {"detail": [error]}))
    for name, kind in {"text": "text/plain", "none": None}.items():
        with report.check(f"refused: content type {name}"):
            answer = exchange(url, "POST", "/step", b'{"action":{"message":"x"}}', content_type=kind)
            error = {
                "type": "model_attributes_type",
                "loc": ["body"],
                "msg": "Input should be a valid dictionary or object to extract fields from",
                "input": '{"action":{"message":"x"}}',
            }
            same((answer.status, less_urls(answer.json())), (422, {"detail": [error]}))
