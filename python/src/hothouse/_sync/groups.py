# Generated from ../_async by generate_sync.py: edit that, then run it.
"""Groups: sandboxes that are made together and deleted together."""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Mapping
from typing import Any

from ..bodies import segment
from ..errors import GroupNotFound
from ..shapes.group import EndedMany, GroupInfo, GroupSummary, ended_many_of, group_of, summary_of
from .connection import Connection
from .sandbox import Sandbox


def undone(body: Mapping[str, Any]) -> bool:
    """True of a `GroupInfo` whose members all ended because a server was killed before it had made all of them."""
    ended = body.get("ended", ())
    half_made = any((item["ending"]["cause"], item["ending"]["by"]) == ("group", "node") for item in ended)
    return half_made and not body["members"]


class Group:
    """A group of a server. As a context manager all its members are deleted at the end of the block.

    Iterating over it gives its members, `len()` counts them, and `group[0]` is the first.
    """

    def __init__(self, connection: Connection, info: GroupInfo) -> None:
        self._connection = connection
        self._path = f"/v1/groups/{segment(info.id)}"
        self.id = info.id
        self.info = info
        """What the server said last; `refresh()` asks again."""
        self.failures = info.failures
        """The members that could not be had, of a group that was made with `on_failure="keep"`."""
        self.sandboxes = [Sandbox(connection, member, None) for member in info.members]
        """Its members: by their number where the group was made from a spec, else by id."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    def __iter__(self) -> Iterator[Sandbox]:
        return iter(self.sandboxes)

    def __len__(self) -> int:
        return len(self.sandboxes)

    def __getitem__(self, index: int) -> Sandbox:
        return self.sandboxes[index]

    def __enter__(self) -> Group:
        return self

    def __exit__(self, *_: object) -> None:
        ended = self.delete()
        if ended.failures:
            raise ended.failures[0].error

    def refresh(self) -> GroupInfo:
        """Asks the server how it is, what has ended included; `sandboxes` are those that are there then.

        Raises `GroupNotFound` when nothing is remembered of it.
        """
        self.info = group_of((self._connection.send("GET", self._path)).json())
        known = {sandbox.id: sandbox for sandbox in self.sandboxes}
        self.sandboxes = []
        for member in self.info.members:
            sandbox = known.get(member.id) or Sandbox(self._connection, member, None)
            sandbox.info = member
            self.sandboxes.append(sandbox)
        return self.info

    def delete(self) -> EndedMany:
        """Deletes all its members; returns when nothing of them is left, with those where that failed.

        When all have ended already there is nothing to do.
        """
        try:
            return ended_many_of((self._connection.send("DELETE", self._path)).json())
        except GroupNotFound:
            return EndedMany(0, [])


class Groups:
    """The groups of a server; `Client.group()` makes one."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, id: str) -> Group:
        """Finds one by its id, with its members and those that have ended. Raises `GroupNotFound`."""
        reply = self._connection.send("GET", f"/v1/groups/{segment(id)}")
        return Group(self._connection, group_of(reply.json()))

    def list(self) -> builtins.list[GroupSummary]:
        """All that have members, sorted by id."""
        return [summary_of(item) for item in (self._connection.send("GET", "/v1/groups")).json()["items"]]
