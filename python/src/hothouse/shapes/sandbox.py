"""Sandboxes: what they are made from and what listings show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Optional

from .lease import Lease, lease_of
from .slots import SLOTS

Phase = Literal["creating", "running", "frozen", "dead", "destroying"]
Level = Literal["enforced", "partial", "missing"]


@dataclass(**SLOTS)
class Resources:
    """Limits of one sandbox: cores, bytes and counts."""

    cpus: float
    memory_bytes: int
    pids: int
    disk_bytes: int
    disk_inodes: int


@dataclass(**SLOTS)
class SandboxSpec:
    """What a sandbox or a template is made from. The values of a sandbox's `env` and `secrets` are shown as `***`.

    `layers` are directories of the node that lie above its image. `needs` is what it takes of the node beside its
    resources; `setup` is a template's: lines that have run before a sandbox of it is ready.
    """

    image: str
    resources: Resources
    network: str
    env: dict[str, str]
    workdir: Optional[str]
    labels: dict[str, str]
    lease: Lease
    secrets: dict[str, str]
    needs: dict[str, float]
    setup: list[str]
    pull: str
    user: Optional[str]
    layers: list[str]


@dataclass(**SLOTS)
class Capability:
    """One protection and how well it holds; `reason` and `fix` are there unless it is enforced."""

    name: str
    what: str
    level: Level
    reason: Optional[str]
    fix: Optional[str]


@dataclass(**SLOTS)
class Capabilities:
    """What a backend enforces."""

    backend: str
    items: list[Capability]


@dataclass(**SLOTS)
class PoolPlace:
    """A sandbox's place in a pool: the pool, the template and its version, and whether it still waits."""

    pool: str
    template: str
    version: int
    claim: Literal["preparing", "ready", "claimed"]


@dataclass(**SLOTS)
class SandboxInfo:
    """A sandbox as listings show it.

    `created_at` is RFC 3339 in UTC; `create_s` is how long making it took, in seconds; `reason` says why a dead one
    is dead. `frozen_by` says who froze a frozen one; what was frozen for `pressure` of memory thaws with the next
    request to it. `group` is the group that it is a member of, `tenant` whose it is where the server has keys.
    """

    id: str
    phase: Phase
    reason: Optional[str]
    spec: SandboxSpec
    created_at: str
    create_s: float
    pool: Optional[PoolPlace]
    group: Optional[str]
    tenant: Optional[str]
    isolation: Capabilities
    frozen_by: Optional[Literal["client", "pressure"]] = None


@dataclass(**SLOTS)
class Health:
    """That the server lives, and its version."""

    status: str
    version: str


@dataclass(**SLOTS)
class ShellInfo:
    """An open shell session; `busy` is True while a command runs in it."""

    shell_id: str
    program: str
    busy: bool


def capabilities_of(body: Mapping[str, Any]) -> Capabilities:
    """Reads `Capabilities`."""
    items = [
        Capability(item["name"], item["what"], item["level"], item.get("reason"), item.get("fix"))
        for item in body["items"]
    ]
    return Capabilities(body["backend"], items)


def spec_of(body: Mapping[str, Any]) -> SandboxSpec:
    """Reads a `SandboxSpec` or `TemplateSpec`."""
    limits = body["resources"]
    return SandboxSpec(
        body["image"],
        Resources(
            limits["cpus"],
            limits["memory_bytes"],
            limits["pids"],
            limits["disk_bytes"],
            limits["disk_inodes"],
        ),
        body["network"],
        body["env"],
        body.get("workdir"),
        body["labels"],
        lease_of(body.get("lease", {})),
        body.get("secrets", {}),
        body.get("needs", {}),
        body.get("setup", []),
        body.get("pull", "missing"),
        body.get("user"),
        body.get("layers", []),
    )


def info_of(body: Mapping[str, Any]) -> SandboxInfo:
    """Reads a `SandboxInfo`."""
    place = body.get("pool")
    return SandboxInfo(
        body["id"],
        body["phase"],
        body.get("reason"),
        spec_of(body["spec"]),
        body["created_at"],
        body["create_s"],
        None if place is None else PoolPlace(place["pool"], place["template"], place["version"], place["claim"]),
        body.get("group"),
        body.get("tenant"),
        capabilities_of(body["isolation"]),
        body.get("frozen_by"),
    )


def shell_of(body: Mapping[str, Any]) -> ShellInfo:
    """Reads a `ShellInfo`."""
    return ShellInfo(body["shell_id"], body["program"], body["busy"])
