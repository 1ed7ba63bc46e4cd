# Generated from ../_async by generate_sync.py: edit that, then run it.
from __future__ import annotations

from collections.abc import Iterator

import pytest

import hothouse
from hothouse import ClaimFile, Client, Pool


@pytest.fixture
def pool(client: Client) -> Iterator[Pool]:
    client.templates.put("py", env={"WHO": "template", "KEPT": "yes"}, memory_bytes=64 << 20)
    pool = client.pools.create("warm", template="py", min=1, max=2)
    yield pool
    pool.drain()
    pool.delete()
    client.templates.delete("py")


def test_a_claim_gets_a_sandbox_and_binds_to_it(client: Client, pool: Pool) -> None:
    files = [ClaimFile("/w/text", "gr€n", 0o600), ClaimFile("/w/bytes", b"\xff\x00")]
    with pool.claim(env={"WHO": "claim"}, labels={"job": "7"}, files=files) as sandbox:
        place = sandbox.info.pool
        assert place is not None
        assert (place.pool, place.template, place.version, place.claim) == ("warm", "py", 1, "claimed")
        assert (sandbox.run("echo $WHO $KEPT; cat /w/text")).stdout == "claim yes\ngr€n"
        assert sandbox.files.read_bytes("/w/bytes") == b"\xff\x00"
        assert [info.id for info in client.sandboxes(labels={"job": "7"})] == [sandbox.id]
        info = pool.refresh()
        assert (info.claimed, info.hits + info.misses) == (1, 1)
        with pytest.raises(hothouse.PoolInUse):
            pool.delete()


def test_a_pool_is_scaled_listed_drained_and_gone(client: Client) -> None:
    client.templates.put("brief")
    pool = client.pools.create("brief", template="brief", min=0, max=1)
    assert (pool.scale(min=1, max=3)).max == 3
    assert [info.name for info in client.pools.list()] == ["brief"]
    assert (client.pools.get("brief")).info.template == "brief"
    assert (pool.drain()).phase == "draining"
    with pytest.raises(hothouse.PoolDraining):
        pool.claim()
    with pytest.raises(hothouse.TemplateInUse):
        client.templates.delete("brief")
    pool.delete()
    with pytest.raises(hothouse.PoolNotFound):
        pool.refresh()
    with pytest.raises(hothouse.PoolNotFound):
        pool.delete()
    client.templates.delete("brief")


def test_templates_have_versions(client: Client) -> None:
    first = client.templates.put("t", env={"A": "1"}, cpus=0.5, labels={"x": "y"})
    assert (first.version, first.spec.env, first.spec.resources.cpus) == (1, {"A": "1"}, 0.5)
    assert (client.templates.put("t", env={"A": "1"}, cpus=0.5, labels={"x": "y"})).version == 1
    assert (client.templates.put("t", env={"A": "2"})).version == 2
    assert (client.templates.get("t")).version == 2
    assert [template.name for template in client.templates.list()] == ["t"]
    client.templates.delete("t")
    with pytest.raises(hothouse.TemplateNotFound):
        client.templates.get("t")
    with pytest.raises(hothouse.TemplateNotFound):
        client.pools.create("p", template="t", min=0, max=1)
