"""One WebSocket to a server of environments: a message out, its answer back."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Optional
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from .errors import EnvConnectionLost, EnvError, error_of

V1 = "hothouse.env.v1"
"""The subprotocol with many sessions on one connection."""
MAX_MESSAGE_MB = 100.0
SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


@dataclass(frozen=True)
class Settings:
    """Where a server is, and how long it may take."""

    base_url: str
    connect_timeout_s: float = 10.0
    message_timeout_s: float = 60.0
    max_message_size_mb: float = MAX_MESSAGE_MB
    headers: dict[str, str] = field(default_factory=dict)
    packed_arrays: bool = False
    """Larger arrays come packed, where the server can do that."""

    @property
    def subprotocol(self) -> Optional[str]:
        """What a connection with one session asks for; only our own servers know it."""
        return V1 if self.packed_arrays else None

    def opening(self, count: int = 1) -> str:
        """The message that opens so many sessions, for a server that speaks `hothouse.env.v1`."""
        message: dict[str, Any] = {"type": "open", "count": count}
        return written({**message, "arrays": "packed"} if self.packed_arrays else message)

    @property
    def url(self) -> str:
        """The address of the WebSocket."""
        scheme, separator, rest = self.base_url.partition("://")
        if not separator or scheme not in SCHEMES:
            raise ValueError(f"base_url is {self.base_url!r}; it begins with http://, https://, ws:// or wss://")
        return f"{SCHEMES[scheme]}://{rest.rstrip('/').removesuffix('/ws')}/ws"

    def options(self, subprotocol: Optional[str]) -> dict[str, Any]:
        """What `connect` of websockets takes."""
        options: dict[str, Any] = {
            # Messages are small and many, and most servers are near.
            "compression": None,
            "max_size": int(self.max_message_size_mb * (1 << 20)),
            "open_timeout": self.connect_timeout_s,
            "additional_headers": self.headers,
            "subprotocols": [Subprotocol(subprotocol)] if subprotocol else None,
        }
        if urlsplit(self.url).hostname in {"localhost", "127.0.0.1", "::1"}:
            options["proxy"] = None
        return options


def written(message: dict[str, Any]) -> str:
    """A message as it is sent."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))


def read(said: str | bytes) -> Any:
    """What is in an answer. Raises the error that it tells of."""
    try:
        answer = json.loads(said)
        kind, data = answer["type"], answer.get("data")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        text = f"the server's answer is none of an environment: {str(said)[:200]!r}"
        raise EnvConnectionLost(text, "BAD_ANSWER") from error
    if kind == "error":
        raise error_of(data)
    return data


CLOSING = {"CAPACITY_REACHED", "FACTORY_ERROR", "SESSION_ERROR", "SESSION_LOST"}
"""Codes of errors after which a server closes a connection that has one session."""


def ends(error: BaseException) -> bool:
    """True for an error after which a connection with one session is of no use."""
    return not isinstance(error, EnvError) or isinstance(error, EnvConnectionLost) or error.code in CLOSING


def unreached(settings: Settings, error: Exception) -> EnvError:
    """The error for a server that cannot be reached."""
    return EnvError(f"cannot reach {settings.url}: {error or type(error).__name__}", "CONNECTION_FAILED")


def lost(error: ConnectionClosed) -> EnvConnectionLost:
    """The error for a connection that ended."""
    return EnvConnectionLost(f"the connection ended, and the session with it: {error}", "CONNECTION_LOST")


def late(settings: Settings) -> EnvConnectionLost:
    """The error for an answer that did not come."""
    seconds = settings.message_timeout_s
    text = f"no answer came within {seconds:g} s (message_timeout_s); the session was ended"
    return EnvConnectionLost(text, "TIMEOUT")


def lost_before(error: EnvError) -> EnvConnectionLost:
    """The error for what is asked of a session that was lost."""
    return EnvConnectionLost(f"the session was lost; reset() begins a new one ({error.message})", error.code)


class Connection:
    """A connection that blocks. One request at a time, but for those of `send` and `receive`."""

    def __init__(self, settings: Settings, subprotocol: Optional[str] = None) -> None:
        self._settings = settings
        try:
            # Entered by hand, since it lives as long as its client; `close` is all that its exit does.
            self._socket: ClientConnection = connect(settings.url, **settings.options(subprotocol)).__enter__()
        except (OSError, WebSocketException) as error:
            raise unreached(settings, error) from error
        self.subprotocol: Optional[str] = self._socket.subprotocol

    @classmethod
    def with_session(cls, settings: Settings) -> Connection:
        """A connection with one session."""
        connection = cls(settings, settings.subprotocol)
        if connection.subprotocol == V1:
            # It has none before it is asked for; from then on the one need not be named.
            try:
                connection.ask(settings.opening())
            except BaseException:
                connection.close()
                raise
        return connection

    def ask(self, text: str, timeout_s: Optional[float] = None) -> Any:
        """Sends a message and waits for its answer."""
        self.send(text)
        return self.receive(timeout_s)

    def send(self, text: str) -> None:
        """Sends a message; each has to be followed by its `receive`."""
        try:
            self._socket.send(text)
        except ConnectionClosed:
            # What the server said before it closed, such as that it is full, is told by `receive`.
            return

    def receive(self, timeout_s: Optional[float] = None) -> Any:
        """The next answer. One that is late ends the connection: the next could not be told from it."""
        try:
            return read(self._socket.recv(timeout_s or self._settings.message_timeout_s))
        except ConnectionClosed as error:
            raise lost(error) from error
        except TimeoutError as error:
            self._socket.close()
            raise late(self._settings) from error
        except KeyboardInterrupt:
            # Its answer is still to come, and would be taken for that of the next request.
            self._socket.close()
            raise

    def close(self) -> None:
        """Ends the session and the connection."""
        # It may be closed already.
        with suppress(ConnectionClosed):
            self._socket.send(written({"type": "close"}))
        self._socket.close()
