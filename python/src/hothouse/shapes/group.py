"""Groups, and what becomes of many sandboxes at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Optional

from ..errors import HothouseError, error_of
from .lease import Ending, ending_of
from .sandbox import SandboxInfo, info_of
from .slots import SLOTS

OnFailure = Literal["undo", "keep"]


@dataclass(**SLOTS)
class Failed:
    """A member that could not be had (`index`, from 0) or a sandbox that could not be ended (`id`), and the error."""

    index: Optional[int]
    id: Optional[str]
    error: HothouseError


@dataclass(**SLOTS)
class EndedMember:
    """A member of a group that is no more."""

    id: str
    ending: Ending


@dataclass(**SLOTS)
class EndedMany:
    """How many sandboxes are no more, and those that could not be removed entirely."""

    ended: int
    failures: list[Failed]


@dataclass(**SLOTS)
class GroupSummary:
    """A group in a listing: `members` is how many are there."""

    id: str
    members: int


@dataclass(**SLOTS)
class GroupInfo:
    """A group: its members that are there, those that have ended as far as that is remembered, and what failed.

    `failures` is there only in the answer to the request that made the group.
    """

    id: str
    members: list[SandboxInfo]
    ended: list[EndedMember]
    failures: list[Failed]


def failed_of(body: Mapping[str, Any]) -> Failed:
    """Reads a `Failed`."""
    return Failed(body.get("index"), body.get("id"), error_of(body["problem"]))


def ended_many_of(body: Mapping[str, Any]) -> EndedMany:
    """Reads an `EndedMany`."""
    return EndedMany(body["ended"], [failed_of(item) for item in body.get("failures", ())])


def summary_of(body: Mapping[str, Any]) -> GroupSummary:
    """Reads a `GroupSummary`."""
    return GroupSummary(body["id"], body["members"])


def group_of(body: Mapping[str, Any]) -> GroupInfo:
    """Reads a `GroupInfo`; members that are numbered come by their number."""
    prefix = f"{body['id']}-"

    def place(info: SandboxInfo) -> tuple[int, str]:
        number = info.id[len(prefix) :] if info.id.startswith(prefix) else ""
        return (int(number), "") if number.isascii() and number.isdigit() else (-1, info.id)

    return GroupInfo(
        body["id"],
        sorted(map(info_of, body["members"]), key=place),
        [EndedMember(item["id"], ending_of(item["ending"])) for item in body.get("ended", ())],
        [failed_of(item) for item in body.get("failures", ())],
    )
