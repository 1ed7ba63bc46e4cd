"""Followed execs: what happens in them, as it happens."""

from __future__ import annotations

import json
from collections import deque
from typing import Optional

import httpx

from ..errors import ConnectionFailed, HothouseError, LimitExceeded, ServerError, ShuttingDown, error_of
from ..events import EventParser, ServerSentEvent
from ..retry import AnswerLate
from ..shapes.exec import ExecEvent, ExecResult, Finished, Started, event_of
from .connection import Connection
from .seam import Flow, next_piece, raw_pieces

QUIET_S = 15.0
"""The server sends a heartbeat into a stream that is quiet for so long."""


class ExecStream:
    """The events of an exec: `Started`, `Output`, `Skipped`, and `Finished` as the last one.

    Iterate over it, once. When the connection breaks, it goes on where it was, without a gap or a repeat. Leaving it
    early ends the following, not the exec; used as a context manager it is closed at the end of the block.
    """

    def __init__(
        self, connection: Connection, follow: str, *, start: tuple[str, bytes] | None = None, resume: str = ""
    ) -> None:
        """Follows at the path `follow`, after the event with the id `resume`; `start` is what starts the exec."""
        self._following = _Following(connection, follow, start, resume)
        # It does not know this object, so that both are gone, and the connection closed, once nobody iterates.
        self._events = _flow(self._following)

    @property
    def result(self) -> ExecResult | None:
        """What happened, once the last event came; its outputs are empty, since the events carried them."""
        return self._following.result

    def __aiter__(self) -> Flow[ExecEvent]:
        return self._events

    async def __aenter__(self) -> ExecStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the following; the exec goes on."""
        await self._events.aclose()


async def _flow(following: _Following) -> Flow[ExecEvent]:
    try:
        while (event := await following.next()) is not None:
            yield event
    finally:
        await following.disconnect()


class _Following:
    """Where a follower is, and the connection that it has at the moment."""

    def __init__(self, connection: Connection, follow: str, start: tuple[str, bytes] | None, resume: str) -> None:
        self.result: Optional[ExecResult] = None
        self._connection = connection
        self._follow = follow
        self._start = start
        self._resume = resume
        self._started = False
        self._attempt = 0
        self._answer: Optional[httpx.Response] = None
        self._pieces: Optional[Flow[bytes]] = None
        self._parser = EventParser()
        self._received: deque[ServerSentEvent] = deque()

    async def next(self) -> ExecEvent | None:
        """The next event; None after the last."""
        while self.result is None:
            try:
                if not self._received:
                    await self._receive()
                event = self._take(self._received.popleft()) if self._received else None
            except (ConnectionFailed, LimitExceeded, ShuttingDown) as error:
                await self._pause_after(error)
                continue
            if event is not None:
                self._attempt = 0
                return event
        return None

    async def _pause_after(self, error: HothouseError) -> None:
        """Disconnects and waits before the next connection; raises the error when it is time to give up."""
        await self.disconnect()
        failed = error
        if isinstance(error, AnswerLate):
            # Not even a heartbeat came: this connection is dead, another one may not be.
            failed = ConnectionFailed(error.detail, maybe_received=True)
        if not await self._connection.backoff(self._attempt, failed):
            raise error
        self._attempt += 1

    async def _receive(self) -> None:
        """Waits for the next events; connects where that is not yet so."""
        pieces = self._pieces or await self._connect()
        piece = await next_piece(pieces)
        if not piece:
            raise ConnectionFailed("the event stream ended before the exec did", maybe_received=True)
        self._received.extend(self._parser.feed(piece))

    async def _connect(self) -> Flow[bytes]:
        method, path, content = "GET", self._follow, b""
        if self._start is not None and not self._resume:
            # Sent again it starts nothing again, since it carries the exec's id.
            method, (path, content) = "POST", self._start
        headers = {"last-event-id": self._resume} if self._resume else {}
        self._answer = await self._connection.open(method, path, content, headers=headers, quiet_s=QUIET_S)
        media_type = self._answer.headers.get("content-type", "")
        if not media_type.startswith("text/event-stream"):
            raise ServerError(f"the answer is {media_type or 'of no type'}, not an event stream")
        self._parser = EventParser()
        self._pieces = raw_pieces(self._answer)
        return self._pieces

    def _take(self, received: ServerSentEvent) -> ExecEvent | None:
        body = json.loads(received.data)
        if received.name == "error":
            raise error_of(body)
        self._resume = received.id or self._resume
        event = event_of(received.name, body)
        if isinstance(event, Finished):
            self.result = event.result
        if isinstance(event, Started):
            if self._started:
                # Each connection begins with one.
                return None
            self._started = True
        return event

    async def disconnect(self) -> None:
        """Closes the connection that it has, if any."""
        pieces, answer = self._pieces, self._answer
        self._pieces = self._answer = None
        self._received.clear()
        if pieces is not None:
            await pieces.aclose()
        if answer is not None:
            await answer.aclose()
