# Generated from ../_async by generate_sync.py: edit that, then run it.
from __future__ import annotations

from collections.abc import Callable

import pytest

import hothouse
from hothouse import ClaimFile, Client, GroupSummary

from ..server import Server


def test_a_group_is_made_used_and_deleted_together(client: Client) -> None:
    with client.group(11, id="g", env={"A": "1"}, labels={"x": "y"}) as group:
        assert len(group) == 11
        assert [sandbox.id for sandbox in group] == [f"g-{at}" for at in range(11)]
        assert group[10].info.group == "g"
        assert (group[10].run("echo $A")).stdout == "1\n"
        assert client.groups.list() == [GroupSummary("g", 11)]
        with pytest.raises(hothouse.GroupExists):
            client.group(1, id="g")
        third = group[2]
        third.delete()
        info = group.refresh()
        assert [(member.id, member.ending.cause) for member in info.ended] == [("g-2", "deleted")]
        assert (len(group), group[2].id) == (10, "g-3")
        found = client.groups.get("g")
        assert [sandbox.id for sandbox in found] == [sandbox.id for sandbox in group]
    with pytest.raises(hothouse.SandboxEnded) as ended:
        group[0].refresh()
    assert ended.value.ending is not None
    assert ended.value.ending.cause == "group"
    # Nothing is left to do.
    assert group.delete() == hothouse.EndedMany(0, [])
    with pytest.raises(hothouse.GroupNotFound):
        client.groups.get("never")


def test_a_group_is_claimed_from_a_pool(client: Client) -> None:
    client.templates.put("many", env={"WHO": "template"})
    pool = client.pools.create("many", template="many", min=1, max=1)
    files = [ClaimFile("/w/job", "7")]
    with client.group(2, pool="many", env={"WHO": "group"}, files=files, pids=32) as group:
        assert [(sandbox.run("echo $WHO; cat /w/job")).stdout for sandbox in group] == ["group\n7"] * 2
        assert [sandbox.info.spec.resources.pids for sandbox in group] == [32, 32]
    pool.drain()
    pool.delete()
    client.templates.delete("many")


def test_a_group_is_whole_or_not_there_or_says_what_failed(start: Callable[..., Server]) -> None:
    server = start("--max-sandboxes", "2")
    with Client(server.url) as client:
        with client.create():
            with pytest.raises(hothouse.CapacityExceeded):
                client.group(2)
            client.templates.put("few")
            client.pools.create("few", template="few", min=0, max=1)
            with pytest.raises(hothouse.CapacityExceeded):
                client.group(2, pool="few", labels={"run": "undo"})
            assert [info.id for info in client.sandboxes(labels={"run": "undo"})] == []
            with client.group(3, pool="few", on_failure="keep") as group:
                assert len(group) == 1
                assert sorted(failed.index for failed in group.failures if failed.index is not None) != []
                assert len(group.failures) == 2
                assert {type(failed.error) for failed in group.failures} == {hothouse.CapacityExceeded}
                assert (group[0].run("echo there")).stdout == "there\n"


def test_what_cannot_be_asked_of_a_group_is_said(client: Client) -> None:
    with pytest.raises(ValueError, match="image, workdir"):
        client.group(1, pool="p", image="host", workdir="/")
    with pytest.raises(ValueError, match="files"):
        client.group(1, files=[ClaimFile("/x", "")])
    with pytest.raises(hothouse.PoolNotFound):
        client.group(1, pool="nope")
    with pytest.raises(hothouse.InvalidRequest) as wrong:
        client.group(0)
    assert wrong.value.field == "count"
