"""Who waits for room gets it, once, by whichever server there is then."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Optional

import httpx
import pytest

from hothouse import Client, Sandbox

from .keys import Keys
from .patience import PATIENCE_S, until
from .server import Server


def waiting(server: Server, count: int, headers: Optional[dict[str, str]] = None) -> None:
    line = f"hothouse_queue_waiting {count}\n"
    url = f"{server.url}/metrics"
    until(f"{count} in the queue", lambda: line in httpx.get(url, headers=headers, trust_env=False).text)


@pytest.mark.parametrize("killed", [False, True])
def test_room_is_given_to_who_waits(start: Callable[..., Server], killed: bool) -> None:
    server = start("--max-sandboxes", "1")
    with Client(server.url, timeout=5) as client, ThreadPoolExecutor(1) as thread:
        first = client.create()
        call = thread.submit(lambda: client.create(id="second", wait_s=60, labels={"run": "queue"}))
        waiting(server, 1)
        if killed:
            server.kill()
            server.start()
            waiting(server, 1)
        assert not call.done()
        first.delete()
        second: Sandbox = call.result(PATIENCE_S)
        assert [info.id for info in client.sandboxes()] == ["second"]
        assert second.run("echo there").stdout == "there\n"
        second.delete()


def test_the_more_urgent_is_served_first(start: Callable[..., Server]) -> None:
    server = start("--max-sandboxes", "1")
    with Client(server.url) as client, ThreadPoolExecutor(2) as thread:
        first = client.create()
        later = thread.submit(lambda: client.create(id="later", wait_s=60))
        waiting(server, 1)
        urgent = thread.submit(lambda: client.create(id="urgent", wait_s=60, priority=5))
        waiting(server, 2)
        first.delete()
        sandbox = urgent.result(PATIENCE_S)
        assert not later.done()
        sandbox.delete()
        assert later.result(PATIENCE_S).id == "later"


def test_a_quota_is_waited_for_too(start: Callable[..., Server], keys: Keys) -> None:
    key, admin = keys.create("a"), keys.create("ops", role="admin")
    keys.limit("a", "--quota", "sandboxes=1")
    server = start(*keys.arguments)
    with Client(server.url, api_key=key.secret) as client, ThreadPoolExecutor(1) as thread:
        first = client.create()
        call = thread.submit(lambda: client.create(id="second", wait_s=60))
        waiting(server, 1, {"authorization": f"Bearer {admin.secret}"})
        first.delete()
        assert call.result(PATIENCE_S).id == "second"
