"""What sandboxes and their node use now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

from .pool import PoolInfo, pool_of
from .slots import SLOTS


@dataclass(**SLOTS)
class SandboxStats:
    """What one sandbox uses; what its machine does not count is None.

    `cpu_s` is CPU time in seconds of a control group that may have served another sandbox before: what counts is the
    difference between two looks. `memory_bytes` has its files in it; `processes` counts threads, and its guest.
    """

    id: str
    phase: str
    cpu_s: Optional[float] = None
    memory_bytes: Optional[int] = None
    processes: Optional[int] = None


@dataclass(**SLOTS)
class Taken:
    """How much is taken of something, and how much there is in all: None where that is not limited."""

    taken: float
    capacity: Optional[float] = None


@dataclass(**SLOTS)
class MemoryStats:
    """The memory of a machine, in bytes, and what was done to keep enough of it.

    `reclaims` counts how often memory was taken back from an idle sandbox, `ended` those that were ended for theirs,
    `thawed` those that a request has thawed; `frozen` are so now. Zero of `min_free_bytes` and `reclaim_below_bytes` is
    no such limit.
    """

    available_bytes: Optional[int]
    min_free_bytes: int
    reclaim_below_bytes: int
    frozen: int
    reclaims: int
    ended: int
    thawed: int
    reclaimed_bytes: int


@dataclass(**SLOTS)
class NodeStats:
    """What a node does now: `at_s` are seconds since its machine started, `waiting` the requests that wait for room."""

    at_s: float
    usage: dict[str, Taken]
    waiting: int
    pools: list[PoolInfo]
    sandboxes: list[SandboxStats]
    memory: Optional[MemoryStats] = None


def sandbox_stats_of(body: Mapping[str, Any]) -> SandboxStats:
    """Reads a `SandboxStats`."""
    return SandboxStats(body["id"], body["phase"], body.get("cpu_s"), body.get("memory_bytes"), body.get("processes"))


def node_stats_of(body: Mapping[str, Any]) -> NodeStats:
    """Reads a `NodeStats`."""
    return NodeStats(
        body["at_s"],
        {name: Taken(of["taken"], of.get("capacity")) for name, of in body["usage"].items()},
        body["waiting"],
        [pool_of(pool) for pool in body["pools"]],
        [sandbox_stats_of(sandbox) for sandbox in body["sandboxes"]],
        memory_stats_of(body["memory"]) if "memory" in body else None,
    )


def memory_stats_of(body: Mapping[str, Any]) -> MemoryStats:
    """Reads a `MemoryStats`."""
    return MemoryStats(
        body.get("available_bytes"),
        body["min_free_bytes"],
        body["reclaim_below_bytes"],
        body["frozen"],
        body["reclaims"],
        body["ended"],
        body["thawed"],
        body["reclaimed_bytes"],
    )
