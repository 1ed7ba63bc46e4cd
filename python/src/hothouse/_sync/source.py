# Generated from ../_async by generate_sync.py: edit that, then run it.
"""A source of server-sent events: one connection at a time, made again when it breaks."""

from __future__ import annotations

from collections import deque
from typing import Optional

import httpx

from ..errors import ConnectionFailed, HothouseError, LimitExceeded, RateLimited, ServerError, ShuttingDown
from ..events import EventParser, ServerSentEvent
from ..retry import AnswerLate
from .connection import Connection
from .seam import Flow, next_piece, raw_pieces

QUIET_S = 15.0
"""The server sends a heartbeat into a stream that is quiet for so long."""
PASSING = (ConnectionFailed, LimitExceeded, RateLimited, ShuttingDown)
"""What another connection may be better than."""


class EventSource:
    """The events that come over the connection that there is at the moment."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._attempt = 0
        self._answer: Optional[httpx.Response] = None
        self._pieces: Optional[Flow[bytes]] = None
        self._parser = EventParser()
        self._received: deque[ServerSentEvent] = deque()

    @property
    def connected(self) -> bool:
        """True while there is a connection, or events of one that wait to be taken."""
        return self._pieces is not None

    def connect(self, method: str, path: str, content: bytes = b"", last_event_id: str = "") -> None:
        """Makes the connection: the answer to this request, which goes on after the event with that id."""
        headers = {"last-event-id": last_event_id} if last_event_id else {}
        self._answer = self._connection.open(method, path, content, headers=headers, quiet_s=QUIET_S)
        media_type = self._answer.headers.get("content-type", "")
        if not media_type.startswith("text/event-stream"):
            raise ServerError(f"the answer is {media_type or 'of no type'}, not an event stream")
        self._parser = EventParser()
        self._pieces = raw_pieces(self._answer)

    def next(self) -> ServerSentEvent:
        """The next event. Raises `ConnectionFailed` where there is none any more."""
        while not self._received:
            assert self._pieces is not None
            piece = next_piece(self._pieces)
            if not piece:
                raise ConnectionFailed("the event stream ended before it was over", maybe_received=True)
            self._received.extend(self._parser.feed(piece))
            if not self._received:
                # A heartbeat: what is quiet is not broken.
                self.progressed()
        return self._received.popleft()

    def progressed(self) -> None:
        """Says that this connection brought something new, so that the next failure is the first again."""
        self._attempt = 0

    def pause_after(self, error: HothouseError) -> None:
        """Disconnects and waits before the next connection; raises the error when it is time to give up."""
        self.disconnect()
        failed = error
        if isinstance(error, AnswerLate):
            # Not even a heartbeat came: this connection is dead, another one may not be.
            failed = ConnectionFailed(error.detail, maybe_received=True)
        if not self._connection.backoff(self._attempt, failed):
            raise error
        self._attempt += 1

    def disconnect(self) -> None:
        """Closes the connection that it has, if any."""
        pieces, answer = self._pieces, self._answer
        self._pieces = self._answer = None
        self._received.clear()
        if pieces is not None:
            pieces.close()
        if answer is not None:
            answer.close()
