"""Clients of environments, one session each.

    from hothouse.env import GenericEnvClient

    with GenericEnvClient("http://127.0.0.1:8000") as env:
        result = env.reset(seed=7)
        while not result.done:
            result = env.step({"number": 42})

`EnvClient` is the base of those with actions and observations of their own. These block; `AsyncEnvClient` and
`AsyncGenericEnvClient` are for asynchronous code.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Optional, TypeVar

from .async_client import AsyncEnvClient, AsyncGenericEnvClient
from .connection import MAX_MESSAGE_MB, Connection, Settings, ends, lost_before, written
from .errors import EnvConnectionLost, EnvError
from .hooks import ActT, Hooks, ObsT, StateT
from .http_client import HTTPEnvClient
from .providers import Contained, DockerProvider, EnvProvider, Running, Served
from .results import StepResult

__all__ = [
    "AsyncEnvClient",
    "AsyncGenericEnvClient",
    "DockerProvider",
    "EnvClient",
    "EnvConnectionLost",
    "EnvError",
    "EnvProvider",
    "GenericEnvClient",
    "HTTPEnvClient",
    "StepResult",
]

ClientT = TypeVar("ClientT", bound="EnvClient[Any, Any, Any]")


class EnvClient(Hooks[ActT, ObsT, StateT]):
    """One session of an environment over a WebSocket. It opens with its first use, and may be used by many threads.

    A session that was lost is not opened again behind its user's back: what comes next raises `EnvError`, until
    `connect` or `reset` begins a new one.
    """

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
        self._connection: Optional[Connection] = None
        self._lost: Optional[EnvError] = None
        self._running: Optional[Running] = None
        self._lock = threading.RLock()

    @classmethod
    def from_env(cls: type[ClientT], name: str, *arguments: str, **settings: Any) -> ClientT:
        """Serves an environment privately and connects to it: a name of `hothouse env ls`, `gym:CartPole-v1`, a
        directory. `arguments` go to `hothouse env serve`. The server ends with the client, and with this process.
        """
        return cls._of(Served(name, *arguments), settings)

    @classmethod
    def from_image(
        cls: type[ClientT],
        image: str,
        provider: Optional[EnvProvider] = None,
        settings: Optional[Mapping[str, Any]] = None,
        **kwargs: Any,
    ) -> ClientT:
        """Runs an image in Docker, or what `provider` runs, and connects to it. `kwargs` go to the provider."""
        return cls._of(Contained(image, provider, **kwargs), settings or {})

    from_docker_image = from_image

    @classmethod
    def _of(cls: type[ClientT], running: Running, settings: Mapping[str, Any]) -> ClientT:
        try:
            client = cls(base_url=running.url, **settings)
            client._running = running
            client.connect()
        except BaseException:
            running.end()
            raise
        return client

    @property
    def base_url(self) -> str:
        """Where the server is."""
        return self._settings.base_url

    def sync(self: ClientT) -> ClientT:
        """This client, which blocks already."""
        return self

    def connect(self: ClientT) -> ClientT:
        """Opens the session, unless it is open."""
        with self._lock:
            if self._connection is None:
                self._connection, self._lost = Connection.with_session(self._settings), None
        return self

    def reset(self, **arguments: Any) -> StepResult[ObsT]:
        """Begins an episode; `seed`, `episode_id` and whatever else the environment takes.

        A connection that was lost since it was last used shows only here, and is opened once more.
        """
        message = {"type": "reset", "data": arguments}
        with self._lock:
            used = self._connection is not None
            self._lost = None
            try:
                data = self._ask(message)
            except EnvConnectionLost as error:
                if not used or error.code != "CONNECTION_LOST":
                    raise
                data = self.connect()._ask(message)
        return self._parse_result(data)

    def step(self, action: ActT) -> StepResult[ObsT]:
        """Acts."""
        return self._parse_result(self._ask({"type": "step", "data": self._step_payload(action)}))

    def state(self) -> StateT:
        """What the environment says of its episode."""
        return self._parse_state(self._ask({"type": "state"}))

    def _ask(self, message: dict[str, Any]) -> Any:
        text = written(message)
        with self._lock:
            if self._lost is not None:
                raise lost_before(self._lost)
            self.connect()
            assert self._connection is not None
            try:
                return self._connection.ask(text)
            except BaseException as error:
                if ends(error):
                    self._drop()
                    self._lost = error if isinstance(error, EnvError) else EnvError("a request was given up")
                raise

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Ends the session, and the server where this client started it. The second time nothing happens."""
        with self._lock:
            self._drop()
            running, self._running = self._running, None
            if running is not None:
                running.end()

    def __enter__(self: ClientT) -> ClientT:
        try:
            return self.connect()
        except BaseException:
            self.close()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class GenericEnvClient(EnvClient[Any, dict[str, Any], dict[str, Any]]):
    """Of any environment: actions, observations and states are dicts."""
