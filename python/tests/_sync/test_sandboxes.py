# Generated from ../_async by generate_sync.py: edit that, then run it.
from __future__ import annotations

from pathlib import Path

import pytest

import hothouse
from hothouse import Client, Sandbox

from ..server import Server


def test_a_sandbox_is_made_found_and_deleted(client: Client) -> None:
    with client.create(
        id="first", memory_bytes=64 << 20, pids=64, env={"SECRET": "hunter2"}, labels={"team": "red"}
    ) as made:
        info = made.info
        assert (info.id, info.phase, info.pool) == ("first", "running", None)
        assert (info.spec.resources.memory_bytes, info.spec.resources.pids) == (64 << 20, 64)
        assert info.spec.env == {"SECRET": "***"}
        assert info.isolation.items
        found = client.sandbox("first")
        assert found.info == info
        assert (found.run("echo $SECRET")).stdout == "hunter2\n"
        with pytest.raises(hothouse.SandboxExists) as exists:
            client.create(id="first")
        assert not exists.value.resent
    with pytest.raises(hothouse.SandboxEnded) as ended:
        client.sandbox("first")
    ending = ended.value.ending
    assert ending is not None
    assert (ended.value.status, ending.cause, ending.by) == (410, "deleted", "client")
    with pytest.raises(hothouse.SandboxEnded):
        found.run("true")
    with pytest.raises(hothouse.SandboxNotFound):
        client.sandbox("never")


def test_a_block_that_fails_deletes_its_sandbox_too(client: Client) -> None:
    with pytest.raises(ZeroDivisionError):
        with client.create() as sandbox:
            raise ZeroDivisionError
    with pytest.raises(hothouse.SandboxEnded):
        client.sandbox(sandbox.id)


def test_a_sandbox_that_somebody_deleted_ends_its_block_well(client: Client) -> None:
    with client.create() as sandbox:
        again = client.sandbox(sandbox.id)
        again.delete()
        again.delete()


def test_listings_go_over_all_pages_and_by_label(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hothouse._sync.client.PAGE", 2)
    made = [client.create(labels={"run": "list", "parity": str(at % 2)}) for at in range(5)]
    try:
        found = [info.id for info in client.sandboxes(labels={"run": "list"})]
        assert found == sorted(sandbox.id for sandbox in made)
        odd = [info.id for info in client.sandboxes(labels={"run": "list", "parity": "1"})]
        assert len(odd) == 2
    finally:
        for sandbox in made:
            sandbox.delete()


def test_a_sandbox_without_a_client_uses_the_server_of_the_environment(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOTHOUSE_SERVER", server.url + "/")
    with Sandbox.create(labels={"a": "b"}) as sandbox:
        again = Sandbox.connect(sandbox.id)
        assert again.info.spec.labels == {"a": "b"}
        assert (again.run("echo found")).stdout == "found\n"
        again.close()
        with pytest.raises(hothouse.SandboxNotFound):
            Sandbox.connect("nope")


def test_a_frozen_sandbox_says_so_until_it_is_thawed(sandbox: Sandbox) -> None:
    try:
        sandbox.freeze()
    except hothouse.Unsupported as unsupported:
        # This machine has no freezer for us, and the server says so.
        assert unsupported.status == 501  # noqa: PT017
        return
    assert sandbox.info.phase == "frozen"
    with pytest.raises(hothouse.SandboxFrozen):
        sandbox.run("true")
    sandbox.thaw()
    assert (sandbox.refresh()).phase == "running"
    assert (sandbox.run("echo back")).stdout == "back\n"


def test_a_wrong_field_is_named(client: Client) -> None:
    with pytest.raises(hothouse.InvalidRequest) as wrong:
        client.create(cpus=0)
    error = wrong.value
    assert (error.code, error.status, error.field) == ("invalid_request", 400, "resources.cpus")
    assert error.problem is not None
    assert error.problem["detail"] == error.detail
    assert "resources.cpus" in str(error)


def test_ids_cannot_leave_their_place_in_a_path(client: Client) -> None:
    with pytest.raises(hothouse.InvalidRequest) as wrong:
        client.sandbox("../capabilities")
    assert wrong.value.field == "sandbox_id"


def test_capabilities_and_health(client: Client) -> None:
    capabilities = client.capabilities()
    assert capabilities.backend == "native"
    assert {item.level for item in capabilities.items} <= {"enforced", "partial", "missing"}
    health = client.health()
    assert health.status == "ok"
    assert health.version


def test_stats_of_a_sandbox_and_of_its_node(client: Client) -> None:
    with client.create() as sandbox:
        own = sandbox.stats()
        assert (own.id, own.phase) == (sandbox.id, "running")
        node = client.stats(limit=1000)
        assert sandbox.id in [stats.id for stats in node.sandboxes]
        assert node.usage["sandboxes"].taken >= 1
        assert node.at_s > 0


def test_a_key_goes_along_and_an_address_is_checked(server: Server) -> None:
    with Client(server.url, api_key="k1") as client:
        assert (client.health()).status == "ok"
        assert client._connection._plain["authorization"] == "Bearer k1"
    for wrong in ("127.0.0.1:8700", "ftp://x", "http://"):
        with pytest.raises(ValueError, match="no address"):
            Client(wrong)


def test_directories_lie_over_the_image(client: Client, tmp_path: Path) -> None:
    for layer, said in (("below", "one"), ("above", "two")):
        (tmp_path / layer / "opt").mkdir(parents=True)
        (tmp_path / layer / "opt" / "said").write_text(said)
    (tmp_path / "below" / "opt" / "kept").write_text("kept")
    layers = [f"dir:{tmp_path}/below", f"dir:{tmp_path}/above"]
    with client.create(layers=layers) as sandbox:
        assert (sandbox.run("cat /opt/said /opt/kept")).stdout == "twokept"
        assert sandbox.info.spec.layers == layers
    with pytest.raises(hothouse.InvalidRequest, match="layers"):
        client.create(layers=["opt"])
