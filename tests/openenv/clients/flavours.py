"""The ways in which an official client may be used; each looks the same to a check, which calls and gets a result."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from types import TracebackType
from typing import Any


class Direct:
    """A client that blocks."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def __enter__(self) -> Any:
        self.client.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.client.__exit__(kind, error, at)


class Awaited:
    """An asynchronous client, on an event loop of its own which runs while a call does."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self._loop = asyncio.new_event_loop()

    def run(self, call: Callable[[], Any]) -> Any:
        """Calls inside the loop, and waits for what it gives when that has to be waited for."""

        async def called() -> Any:
            answer = call()
            return await answer if inspect.isawaitable(answer) else answer

        return self._loop.run_until_complete(called())

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.client, name)
        if not callable(found):
            return found
        return lambda *arguments, **named: self.run(lambda: found(*arguments, **named))

    def __enter__(self) -> Any:
        self.run(self.client.__aenter__)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.run(lambda: self.client.__aexit__(kind, error, at))
        self._loop.close()


FLAVOURS: dict[str, dict[str, Callable[[Any], Any]]] = {
    "0.2": {"blocking": Direct},
    "0.3": {"async": Awaited, "sync()": lambda client: Direct(client.sync())},
    # Outside of an event loop, this one's methods block by themselves.
    "0.10": {"async": Awaited, "sync()": lambda client: Direct(client.sync()), "auto": Direct},
}
"""Of each generation that speaks WebSocket."""
