"""Many clients at one server: each connection is a session of its own, up to the server's capacity."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from checks import Report, same
from openenv.core import GenericEnvClient
from websockets.exceptions import ConnectionClosed

PATIENCE_S = 30.0


def apart(report: Report, url: str, flavour: Callable[[Any], Any]) -> None:
    """Interleaves sessions."""
    with report.check("sessions do not see each other"):
        clients = [flavour(GenericEnvClient(base_url=url)) for _ in range(5)]
        for client in clients:
            client.__enter__()
        try:
            for client in clients:
                client.reset()
            for turn in range(5):
                for client in clients[turn:]:
                    client.step({"message": "x"})
            states = [client.state() for client in clients]
        finally:
            for client in clients:
                client.__exit__(None, None, None)
        same([state["step_count"] for state in states], [1, 2, 3, 4, 5])
        same(len({state["episode_id"] for state in states}), 5)


def together(report: Report, url: str) -> None:
    """Sessions of one event loop, all at once."""

    async def one(number: int) -> list[int]:
        async with GenericEnvClient(base_url=url) as client:
            await client.reset()
            steps = [await client.step({"message": f"{number} {step}"}) for step in range(20)]
            assert all(
                step.observation["echoed_message"] == f"{number} {turn}" for turn, step in enumerate(steps)
            ), steps
            return [step.observation["metadata"]["step"] for step in steps]

    async def all_of_them() -> list[list[int]]:
        return await asyncio.gather(*(one(number) for number in range(12)))

    with report.check("twelve sessions at once"):
        same(asyncio.run(all_of_them()), [list(range(1, 21))] * 12)


def capacity(report: Report, url: str, flavour: Callable[[Any], Any]) -> None:
    """Against a server with room for two."""
    open_clients = [flavour(GenericEnvClient(base_url=url)) for _ in range(2)]
    with report.check("as many as there is room for"):
        for client in open_clients:
            client.__enter__()
            client.reset()
    with report.check("one too many is refused"):
        refused(flavour(GenericEnvClient(base_url=url)))
    with report.check("the others do not notice"):
        same([client.step({"message": "x"}).observation["metadata"]["step"] for client in open_clients], [1, 1])
    with report.check("a session that ends makes room"):
        open_clients.pop().__exit__(None, None, None)
        open_clients.append(when_there_is_room(lambda: flavour(GenericEnvClient(base_url=url))))
        same(open_clients[-1].step({"message": "x"}).observation["metadata"]["step"], 1)
    for client in open_clients:
        client.__exit__(None, None, None)


def refused(client: Any) -> None:
    """Asserts that there is no room."""
    try:
        with client:
            answer = client.reset()
    except RuntimeError as error:
        same(
            str(error),
            "Server error: Server at capacity: 2/2 sessions active. Cannot accept new connections. "
            "(code: CAPACITY_REACHED)",
        )
    except ConnectionClosed as error:
        # The server closes right behind its refusal. A client that sees the end before it has sent its first message
        # cannot send, and never looks at what had come. `frames` asserts the refusal itself.
        assert error.rcvd is not None, error
        same(error.rcvd.code, 1000)
    else:
        raise AssertionError(f"{answer!r} although there was no room")


def when_there_is_room(client: Callable[[], Any]) -> Any:
    """A session, as soon as one may be had: a server hears of the end of the one before in its own time."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        candidate = client()
        candidate.__enter__()
        try:
            candidate.reset()
        except (RuntimeError, ConnectionClosed):
            candidate.__exit__(None, None, None)
            if time.monotonic() > deadline:
                raise
        else:
            return candidate
