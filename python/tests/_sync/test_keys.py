# Generated from ../_async by generate_sync.py: edit that, then run it.
"""A server that asks who somebody is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import hothouse
from hothouse import Client

from ..faults import LosingAnswers, is_to
from ..keys import Keys
from ..server import Server


def test_who_has_no_good_key_is_told_so(
    keys: Keys, start: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    key, stranger = keys.create("a"), keys.create("b")
    server = start(*keys.arguments)
    for wrong in ("", "hh_wrong", key.secret[:20]):
        with Client(server.url, api_key=wrong) as client:
            with pytest.raises(hothouse.Unauthorized) as refused:
                client.create()
            assert refused.value.status == 401
            assert (client.health()).status == "ok"
    monkeypatch.setenv("HOTHOUSE_API_KEY", key.secret)
    with Client(server.url) as client, client.create() as sandbox:
        assert sandbox.info.tenant == "a"
        with pytest.raises(hothouse.Forbidden, match="admin"):
            client.templates.put("t")
        # Another tenant knows nothing of it.
        with Client(server.url, api_key=stranger.secret) as other:
            assert [info.id for info in other.sandboxes()] == []


def test_a_quota_is_said_and_waited_for_by_the_server(keys: Keys, start: Callable[..., Server]) -> None:
    key = keys.create("a")
    keys.limit("a", "--quota", "sandboxes=1")
    server = start(*keys.arguments)
    transport = LosingAnswers(is_to("POST", "/v1/sandboxes"), times=0)
    with Client(server.url, api_key=key.secret, transport=transport) as client:
        with client.create():
            with pytest.raises(hothouse.QuotaExceeded, match="tenant a may have 1 sandboxes") as exceeded:
                client.create()
            assert len(transport.seen) == 2
            assert exceeded.value.retry_after_s >= 1
        with client.create():
            pass


def test_a_rate_is_kept_by_waiting_as_long_as_the_server_says(keys: Keys, start: Callable[..., Server]) -> None:
    key = keys.create("a")
    keys.limit("a", "--requests", "1")
    server = start(*keys.arguments)
    transport = LosingAnswers(is_to("GET", "/v1/capabilities"), times=0)
    with Client(server.url, api_key=key.secret, transport=transport) as client:
        for _ in range(3):
            client.capabilities()
        assert len(transport.seen) > 3
        with Client(server.url, api_key=key.secret, retries=0) as hasty:
            with pytest.raises(hothouse.RateLimited):
                assert [hasty.capabilities() for _ in range(100)] == []


def test_a_key_that_is_revoked_ends_what_it_follows(keys: Keys, start: Callable[..., Server]) -> None:
    key, other = keys.create("a"), keys.create("a")
    server = start(*keys.arguments)
    with Client(server.url, api_key=key.secret) as client:
        sandbox = client.create()
        with sandbox.stream("while [ ! -e /go ]; do sleep 0.05; done; echo done", exec_id="long") as events:
            following = events.__iter__()
            assert isinstance(following.__next__(), hothouse.Started)
            keys.revoke(key)
            with pytest.raises(hothouse.KeyRevoked):
                following.__next__()
        with pytest.raises(hothouse.Unauthorized):
            sandbox.refresh()
    with Client(server.url, api_key=other.secret) as client:
        again = client.sandbox(sandbox.id)
        again.files.write_text("/go", "")
        assert (again.exec("long").wait()).stdout == "done\n"
