from __future__ import annotations

from pathlib import Path

import pytest

import hothouse
from hothouse import AsyncClient, AsyncSandbox

from ..server import Server


async def test_a_sandbox_is_made_found_and_deleted(client: AsyncClient) -> None:
    async with await client.create(
        id="first", memory_bytes=64 << 20, pids=64, env={"SECRET": "hunter2"}, labels={"team": "red"}
    ) as made:
        info = made.info
        assert (info.id, info.phase, info.pool) == ("first", "running", None)
        assert (info.spec.resources.memory_bytes, info.spec.resources.pids) == (64 << 20, 64)
        assert info.spec.env == {"SECRET": "***"}
        assert info.isolation.items
        found = await client.sandbox("first")
        assert found.info == info
        assert (await found.run("echo $SECRET")).stdout == "hunter2\n"
        with pytest.raises(hothouse.SandboxExists) as exists:
            await client.create(id="first")
        assert not exists.value.resent
    with pytest.raises(hothouse.SandboxEnded) as ended:
        await client.sandbox("first")
    ending = ended.value.ending
    assert ending is not None
    assert (ended.value.status, ending.cause, ending.by) == (410, "deleted", "client")
    with pytest.raises(hothouse.SandboxEnded):
        await found.run("true")
    with pytest.raises(hothouse.SandboxNotFound):
        await client.sandbox("never")


async def test_a_block_that_fails_deletes_its_sandbox_too(client: AsyncClient) -> None:
    with pytest.raises(ZeroDivisionError):
        async with await client.create() as sandbox:
            raise ZeroDivisionError
    with pytest.raises(hothouse.SandboxEnded):
        await client.sandbox(sandbox.id)


async def test_a_sandbox_that_somebody_deleted_ends_its_block_well(client: AsyncClient) -> None:
    async with await client.create() as sandbox:
        again = await client.sandbox(sandbox.id)
        await again.delete()
        await again.delete()


async def test_listings_go_over_all_pages_and_by_label(client: AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hothouse._async.client.PAGE", 2)
    made = [await client.create(labels={"run": "list", "parity": str(at % 2)}) for at in range(5)]
    try:
        found = [info.id async for info in client.sandboxes(labels={"run": "list"})]
        assert found == sorted(sandbox.id for sandbox in made)
        odd = [info.id async for info in client.sandboxes(labels={"run": "list", "parity": "1"})]
        assert len(odd) == 2
    finally:
        for sandbox in made:
            await sandbox.delete()


async def test_a_sandbox_without_a_client_uses_the_server_of_the_environment(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOTHOUSE_SERVER", server.url + "/")
    async with await AsyncSandbox.create(labels={"a": "b"}) as sandbox:
        again = await AsyncSandbox.connect(sandbox.id)
        assert again.info.spec.labels == {"a": "b"}
        assert (await again.run("echo found")).stdout == "found\n"
        await again.close()
        with pytest.raises(hothouse.SandboxNotFound):
            await AsyncSandbox.connect("nope")


async def test_a_frozen_sandbox_says_so_until_it_is_thawed(sandbox: AsyncSandbox) -> None:
    try:
        await sandbox.freeze()
    except hothouse.Unsupported as unsupported:
        # This machine has no freezer for us, and the server says so.
        assert unsupported.status == 501  # noqa: PT017
        return
    assert sandbox.info.phase == "frozen"
    with pytest.raises(hothouse.SandboxFrozen):
        await sandbox.run("true")
    await sandbox.thaw()
    assert (await sandbox.refresh()).phase == "running"
    assert (await sandbox.run("echo back")).stdout == "back\n"


async def test_a_wrong_field_is_named(client: AsyncClient) -> None:
    with pytest.raises(hothouse.InvalidRequest) as wrong:
        await client.create(cpus=0)
    error = wrong.value
    assert (error.code, error.status, error.field) == ("invalid_request", 400, "resources.cpus")
    assert error.problem is not None
    assert error.problem["detail"] == error.detail
    assert "resources.cpus" in str(error)


async def test_ids_cannot_leave_their_place_in_a_path(client: AsyncClient) -> None:
    with pytest.raises(hothouse.InvalidRequest) as wrong:
        await client.sandbox("../capabilities")
    assert wrong.value.field == "sandbox_id"


async def test_capabilities_and_health(client: AsyncClient) -> None:
    capabilities = await client.capabilities()
    assert capabilities.backend == "native"
    assert {item.level for item in capabilities.items} <= {"enforced", "partial", "missing"}
    health = await client.health()
    assert health.status == "ok"
    assert health.version


async def test_stats_of_a_sandbox_and_of_its_node(client: AsyncClient) -> None:
    async with await client.create() as sandbox:
        own = await sandbox.stats()
        assert (own.id, own.phase) == (sandbox.id, "running")
        node = await client.stats(limit=1000)
        assert sandbox.id in [stats.id for stats in node.sandboxes]
        assert node.usage["sandboxes"].taken >= 1
        assert node.at_s > 0


async def test_a_key_goes_along_and_an_address_is_checked(server: Server) -> None:
    async with AsyncClient(server.url, api_key="k1") as client:
        assert (await client.health()).status == "ok"
        assert client._connection._plain["authorization"] == "Bearer k1"
    for wrong in ("127.0.0.1:8700", "ftp://x", "http://"):
        with pytest.raises(ValueError, match="no address"):
            AsyncClient(wrong)


async def test_directories_lie_over_the_image(client: AsyncClient, tmp_path: Path) -> None:
    for layer, said in (("below", "one"), ("above", "two")):
        (tmp_path / layer / "opt").mkdir(parents=True)
        (tmp_path / layer / "opt" / "said").write_text(said)
    (tmp_path / "below" / "opt" / "kept").write_text("kept")
    layers = [f"dir:{tmp_path}/below", f"dir:{tmp_path}/above"]
    async with await client.create(layers=layers) as sandbox:
        assert (await sandbox.run("cat /opt/said /opt/kept")).stdout == "twokept"
        assert sandbox.info.spec.layers == layers
    with pytest.raises(hothouse.InvalidRequest, match="layers"):
        await client.create(layers=["opt"])
