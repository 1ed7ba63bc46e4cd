# Generated from ../_async by generate_sync.py: edit that, then run it.
"""Followed execs: what happens in them, as it happens."""

from __future__ import annotations

import json

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
        self._connection = connection
        self._follow = follow
        self._start = start
        self._resume = resume
        self._started = False
        self._events = self._all()
        self.result: ExecResult | None = None
        """What happened, once the last event came; its outputs are empty, since the events carried them."""

    def __iter__(self) -> Flow[ExecEvent]:
        return self._events

    def __enter__(self) -> ExecStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the following; the exec goes on."""
        self._events.close()

    def _all(self) -> Flow[ExecEvent]:
        attempt = 0
        while self.result is None:
            failed: HothouseError
            events = self._once()
            try:
                for event in events:
                    attempt = 0
                    yield event
                failed = ConnectionFailed("the event stream ended before the exec did", maybe_received=True)
            except AnswerLate as late:
                # Not even a heartbeat came: this connection is dead, another one may not be.
                failed = ConnectionFailed(late.detail, maybe_received=True)
            except (ConnectionFailed, LimitExceeded, ShuttingDown) as error:
                failed = error
            finally:
                events.close()
            if self.result is None:
                if not self._connection.backoff(attempt, failed):
                    raise failed
                attempt += 1

    def _once(self) -> Flow[ExecEvent]:
        """The events of one connection."""
        method, path, content = "GET", self._follow, b""
        if self._start is not None and not self._resume:
            # Sent again it starts nothing again, since it carries the exec's id.
            method, (path, content) = "POST", self._start
        headers = {"last-event-id": self._resume} if self._resume else {}
        with self._connection.open(method, path, content, headers=headers, quiet_s=QUIET_S) as answer:
            media_type = answer.headers.get("content-type", "")
            if not media_type.startswith("text/event-stream"):
                raise ServerError(f"the answer is {media_type or 'of no type'}, not an event stream")
            parser = EventParser()
            pieces = raw_pieces(answer)
            try:
                while piece := next_piece(pieces):
                    for received in parser.feed(piece):
                        event = self._take(received)
                        if event is not None:
                            yield event
                        # Only now: what was not given on is asked for again.
                        self._resume = received.id or self._resume
                        if self.result is not None:
                            return
            finally:
                pieces.close()

    def _take(self, received: ServerSentEvent) -> ExecEvent | None:
        body = json.loads(received.data)
        if received.name == "error":
            raise error_of(body)
        event = event_of(received.name, body)
        if isinstance(event, Finished):
            self.result = event.result
        if isinstance(event, Started):
            if self._started:
                # Each connection begins with one.
                return None
            self._started = True
        return event
