# Generated from ../_async by generate_sync.py: edit that, then run it.
"""Sandboxes that end by themselves, and the values that commands get by name."""

from __future__ import annotations

import pytest

import hothouse
from hothouse import Client, Ending, Event, Lease


def ending_of(client: Client, sandbox_id: str) -> Ending:
    """Waits for the end of a sandbox."""
    with client.events(after="0", sandbox_id=sandbox_id) as events:
        for event in events:
            if isinstance(event, Event) and event.ending is not None:
                return event.ending
    raise AssertionError("events never end")


def test_a_lease_ends_a_sandbox_and_the_error_says_so(client: Client) -> None:
    with client.create(lease=Lease(lifetime_s=0.2, idle_s=600)) as sandbox:
        assert sandbox.info.spec.lease == Lease(lifetime_s=0.2, idle_s=600)
        ending = ending_of(client, sandbox.id)
        # The event tells of the beginning of the end; this waits until nothing of it is left.
        sandbox.delete()
        with pytest.raises(hothouse.SandboxEnded) as ended:
            sandbox.run("true")
        assert ended.value.ending == ending
        assert (ending.cause, ending.by) == ("lifetime", "lease")
        assert "0.2 s" in ending.why
        assert sandbox.id in str(ended.value)


def test_an_owner_that_is_not_heard_of_loses_its_sandboxes(client: Client) -> None:
    lease = Lease(owner="job-7", owner_s=1.5)
    made = [client.create(lease=lease) for _ in range(2)]
    assert client.renew("job-7") == 2
    assert [(ending_of(client, sandbox.id)).cause for sandbox in made] == ["owner_gone"] * 2
    with pytest.raises(hothouse.NotFound):
        client.renew("never-heard-of")


def test_a_lease_that_breaks_a_rule_is_named(client: Client) -> None:
    with pytest.raises(hothouse.InvalidRequest) as wrong:
        client.create(lease=Lease(idle_s=-1))
    assert wrong.value.field == "lease.idle_s"


def test_a_secret_reaches_who_asks_for_it(client: Client) -> None:
    with client.create(secrets={"TOKEN": "hunter2", "OTHER": "x"}) as sandbox:
        assert sandbox.info.spec.secrets == {"TOKEN": "***", "OTHER": "***"}
        line, names = "echo $TOKEN-$OTHER", ["TOKEN"]
        assert (sandbox.run(line)).stdout == "-\n"
        assert (sandbox.run(line, secrets=names)).stdout == "hunter2-\n"
        assert ((sandbox.spawn(line, secrets=names)).wait()).stdout == "hunter2-\n"
        with sandbox.shell(secrets=names) as shell:
            assert (shell.run(line)).stdout == "hunter2-\n"
        texts = [event.text for event in sandbox.stream(line, secrets=names) if isinstance(event, hothouse.Output)]
        assert "".join(texts) == "hunter2-\n"
        with pytest.raises(hothouse.InvalidRequest) as wrong:
            sandbox.run(line, secrets=["TOKEN", "NOPE"])
        assert wrong.value.field == "secrets[1]"


def test_all_that_carry_a_label_are_deleted_at_once(client: Client) -> None:
    made = [client.create(labels={"batch": "9", "at": str(at)}) for at in range(3)]
    assert client.delete_all(labels={"batch": "9", "at": "1"}) == hothouse.EndedMany(1, [])
    assert client.delete_all(labels={"batch": "9"}) == hothouse.EndedMany(2, [])
    for sandbox in made:
        with pytest.raises(hothouse.SandboxEnded):
            sandbox.refresh()
    with pytest.raises(hothouse.InvalidRequest):
        client.delete_all(labels={})
