"""Templates and pools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Optional

from .sandbox import SandboxSpec, spec_of
from .slots import SLOTS


@dataclass(**SLOTS)
class Template:
    """A template; `version` counts from 1, one more whenever its spec changes."""

    name: str
    version: int
    spec: SandboxSpec


@dataclass(**SLOTS)
class PoolInfo:
    """A pool as listings show it.

    `min` and `max` are how many sandboxes it keeps ready; `ready`, `making` and `claimed` count those there are now;
    `hits`, `misses` and `failures` count since the server started.
    """

    name: str
    template: str
    min: int
    max: int
    phase: Literal["active", "draining"]
    template_version: int
    ready: int
    making: int
    claimed: int
    hits: int
    misses: int
    failures: int
    last_failure: Optional[str]


@dataclass(**SLOTS)
class ClaimFile:
    """A file that a claim brings: its absolute path, its content, and its permission bits (e.g. `0o644`)."""

    path: str
    content: str | bytes
    mode: Optional[int] = None


def template_of(body: Mapping[str, Any]) -> Template:
    """Reads a `TemplateInfo`."""
    return Template(body["name"], body["version"], spec_of(body["spec"]))


def pool_of(body: Mapping[str, Any]) -> PoolInfo:
    """Reads a `PoolInfo`."""
    spec = body["spec"]
    return PoolInfo(
        spec["name"],
        spec["template"],
        spec["min"],
        spec["max"],
        body["phase"],
        body["template_version"],
        body["ready"],
        body["making"],
        body["claimed"],
        body["hits"],
        body["misses"],
        body["failures"],
        body.get("last_failure"),
    )
