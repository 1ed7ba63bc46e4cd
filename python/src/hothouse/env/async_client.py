"""Clients of environments for asynchronous code, on asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Optional, TypeVar

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from .connection import MAX_MESSAGE_MB, V1, Settings, ends, late, lost, lost_before, read, unreached, written
from .errors import EnvConnectionLost, EnvError
from .hooks import ActT, Hooks, ObsT, StateT
from .providers import Contained, EnvProvider, Running, Served
from .results import StepResult

ClientT = TypeVar("ClientT", bound="AsyncEnvClient[Any, Any, Any]")


class AsyncEnvClient(Hooks[ActT, ObsT, StateT]):
    """One session of an environment over a WebSocket, as `EnvClient` is. Requests of many tasks wait for each other."""

    def __init__(
        self,
        base_url: str,
        connect_timeout_s: float = 10.0,
        message_timeout_s: float = 60.0,
        max_message_size_mb: float = MAX_MESSAGE_MB,
        headers: Optional[Mapping[str, str]] = None,
        packed_arrays: bool = False,
    ) -> None:
        self._settings = Settings(
            base_url, connect_timeout_s, message_timeout_s, max_message_size_mb, dict(headers or {}), packed_arrays
        )
        self._socket: Optional[ClientConnection] = None
        self._lost: Optional[EnvError] = None
        self._running: Optional[Running] = None
        self._lock = asyncio.Lock()

    @classmethod
    async def from_env(cls: type[ClientT], name: str, *arguments: str, **settings: Any) -> ClientT:
        """Serves an environment privately and connects to it. See `EnvClient.from_env`."""
        return await cls._of(await asyncio.to_thread(Served, name, *arguments), settings)

    @classmethod
    async def from_image(
        cls: type[ClientT],
        image: str,
        provider: Optional[EnvProvider] = None,
        settings: Optional[Mapping[str, Any]] = None,
        **kwargs: Any,
    ) -> ClientT:
        """Runs an image in Docker, or what `provider` runs, and connects to it. `kwargs` go to the provider."""
        return await cls._of(await asyncio.to_thread(Contained, image, provider, **kwargs), settings or {})

    from_docker_image = from_image

    @classmethod
    async def _of(cls: type[ClientT], running: Running, settings: Mapping[str, Any]) -> ClientT:
        try:
            client = cls(base_url=running.url, **settings)
            client._running = running
            return await client.connect()
        except BaseException:
            running.end()
            raise

    @property
    def base_url(self) -> str:
        """Where the server is."""
        return self._settings.base_url

    async def connect(self: ClientT) -> ClientT:
        """Opens the session, unless it is open."""
        async with self._lock:
            await self._open()
        return self

    async def _open(self) -> ClientConnection:
        if self._socket is None:
            try:
                socket = await connect(self._settings.url, **self._settings.options(self._settings.subprotocol))
            except (OSError, WebSocketException) as error:
                raise unreached(self._settings, error) from error
            if socket.subprotocol == V1:
                # It has no session before it is asked for; from then on the one need not be named.
                try:
                    await self._answer(socket, self._settings.opening())
                except BaseException:
                    socket.transport.abort()
                    raise
            self._socket = socket
            self._lost = None
        return self._socket

    async def reset(self, **arguments: Any) -> StepResult[ObsT]:
        """Begins an episode; a connection that was lost since it was last used is opened once more."""
        text = written({"type": "reset", "data": arguments})
        async with self._lock:
            used = self._socket is not None
            self._lost = None
            try:
                data = await self._ask(text)
            except EnvConnectionLost as error:
                if not used or error.code != "CONNECTION_LOST":
                    raise
                self._lost = None
                data = await self._ask(text)
        return self._parse_result(data)

    async def step(self, action: ActT) -> StepResult[ObsT]:
        """Acts."""
        text = written({"type": "step", "data": self._step_payload(action)})
        async with self._lock:
            return self._parse_result(await self._ask(text))

    async def state(self) -> StateT:
        """What the environment says of its episode."""
        async with self._lock:
            return self._parse_state(await self._ask(written({"type": "state"})))

    async def _ask(self, text: str) -> Any:
        if self._lost is not None:
            raise lost_before(self._lost)
        socket = await self._open()
        try:
            return await self._answer(socket, text)
        except BaseException as error:
            if ends(error):
                # A request that was given up may be answered yet, and the next one's answer has to be its own.
                self._socket = None
                self._lost = error if isinstance(error, EnvError) else EnvError("a request was given up")
                socket.transport.abort()
            raise

    async def _answer(self, socket: ClientConnection, text: str) -> Any:
        # What the server said before it closed, such as that it is full, is read below.
        with suppress(ConnectionClosed):
            await socket.send(text)
        try:
            return read(await asyncio.wait_for(socket.recv(), self._settings.message_timeout_s))
        except ConnectionClosed as error:
            raise lost(error) from error
        except asyncio.TimeoutError as error:
            raise late(self._settings) from error

    async def close(self) -> None:
        """Ends the session, and the server where this client started it. The second time nothing happens."""
        socket, self._socket = self._socket, None
        if socket is not None:
            # It may be closed already.
            with suppress(ConnectionClosed):
                await socket.send(written({"type": "close"}))
            await socket.close()
        running, self._running = self._running, None
        if running is not None:
            await asyncio.to_thread(running.end)

    async def __aenter__(self: ClientT) -> ClientT:
        try:
            return await self.connect()
        except BaseException:
            await self.close()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()


class AsyncGenericEnvClient(AsyncEnvClient[Any, dict[str, Any], dict[str, Any]]):
    """Of any environment: actions, observations and states are dicts."""
