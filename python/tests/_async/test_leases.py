"""Sandboxes that end by themselves, and the values that commands get by name."""

from __future__ import annotations

import pytest

import hothouse
from hothouse import AsyncClient, Ending, Event, Lease


async def ending_of(client: AsyncClient, sandbox_id: str) -> Ending:
    """Waits for the end of a sandbox."""
    async with client.events(after="0", sandbox_id=sandbox_id) as events:
        async for event in events:
            if isinstance(event, Event) and event.ending is not None:
                return event.ending
    raise AssertionError("events never end")


async def test_a_lease_ends_a_sandbox_and_the_error_says_so(client: AsyncClient) -> None:
    async with await client.create(lease=Lease(lifetime_s=0.2, idle_s=600)) as sandbox:
        assert sandbox.info.spec.lease == Lease(lifetime_s=0.2, idle_s=600)
        ending = await ending_of(client, sandbox.id)
        # The event tells of the beginning of the end; this waits until nothing of it is left.
        await sandbox.delete()
        with pytest.raises(hothouse.SandboxEnded) as ended:
            await sandbox.run("true")
        assert ended.value.ending == ending
        assert (ending.cause, ending.by) == ("lifetime", "lease")
        assert "0.2 s" in ending.why
        assert sandbox.id in str(ended.value)


async def test_an_owner_that_is_not_heard_of_loses_its_sandboxes(client: AsyncClient) -> None:
    lease = Lease(owner="job-7", owner_s=1.5)
    made = [await client.create(lease=lease) for _ in range(2)]
    assert await client.renew("job-7") == 2
    assert [(await ending_of(client, sandbox.id)).cause for sandbox in made] == ["owner_gone"] * 2
    with pytest.raises(hothouse.NotFound):
        await client.renew("never-heard-of")


async def test_a_lease_that_breaks_a_rule_is_named(client: AsyncClient) -> None:
    with pytest.raises(hothouse.InvalidRequest) as wrong:
        await client.create(lease=Lease(idle_s=-1))
    assert wrong.value.field == "lease.idle_s"


async def test_a_secret_reaches_who_asks_for_it(client: AsyncClient) -> None:
    async with await client.create(secrets={"TOKEN": "hunter2", "OTHER": "x"}) as sandbox:
        assert sandbox.info.spec.secrets == {"TOKEN": "***", "OTHER": "***"}
        line, names = "echo $TOKEN-$OTHER", ["TOKEN"]
        assert (await sandbox.run(line)).stdout == "-\n"
        assert (await sandbox.run(line, secrets=names)).stdout == "hunter2-\n"
        assert (await (await sandbox.spawn(line, secrets=names)).wait()).stdout == "hunter2-\n"
        async with await sandbox.shell(secrets=names) as shell:
            assert (await shell.run(line)).stdout == "hunter2-\n"
        texts = [
            event.text async for event in sandbox.stream(line, secrets=names) if isinstance(event, hothouse.Output)
        ]
        assert "".join(texts) == "hunter2-\n"
        with pytest.raises(hothouse.InvalidRequest) as wrong:
            await sandbox.run(line, secrets=["TOKEN", "NOPE"])
        assert wrong.value.field == "secrets[1]"


async def test_all_that_carry_a_label_are_deleted_at_once(client: AsyncClient) -> None:
    made = [await client.create(labels={"batch": "9", "at": str(at)}) for at in range(3)]
    assert await client.delete_all(labels={"batch": "9", "at": "1"}) == hothouse.EndedMany(1, [])
    assert await client.delete_all(labels={"batch": "9"}) == hothouse.EndedMany(2, [])
    for sandbox in made:
        with pytest.raises(hothouse.SandboxEnded):
            await sandbox.refresh()
    with pytest.raises(hothouse.InvalidRequest):
        await client.delete_all(labels={})
