# Generated from ../_async by generate_sync.py: edit that, then run it.
"""Followed execs: what happens in them, as it happens."""

from __future__ import annotations

import json
from typing import Optional

from ..errors import error_of
from ..events import ServerSentEvent
from ..shapes.exec import ExecEvent, ExecResult, Finished, Started, event_of
from .connection import Connection
from .seam import Flow
from .source import PASSING, EventSource


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

    def __iter__(self) -> Flow[ExecEvent]:
        return self._events

    def __enter__(self) -> ExecStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the following; the exec goes on."""
        self._events.close()


def _flow(following: _Following) -> Flow[ExecEvent]:
    try:
        while (event := following.next()) is not None:
            yield event
    finally:
        following.disconnect()


class _Following:
    """Where a follower is."""

    def __init__(self, connection: Connection, follow: str, start: tuple[str, bytes] | None, resume: str) -> None:
        self.result: Optional[ExecResult] = None
        self._source = EventSource(connection)
        self._follow = follow
        self._start = start
        self._resume = resume
        self._started = False

    def next(self) -> ExecEvent | None:
        """The next event; None after the last."""
        while self.result is None:
            try:
                if not self._source.connected:
                    self._connect()
                event = self._take(self._source.next())
            except PASSING as error:
                self._source.pause_after(error)
                continue
            if event is not None:
                self._source.progressed()
                return event
        return None

    def _connect(self) -> None:
        if self._start is not None and not self._resume:
            # Sent again it starts nothing again, since it carries the exec's id.
            self._source.connect("POST", *self._start)
        else:
            self._source.connect("GET", self._follow, last_event_id=self._resume)

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

    def disconnect(self) -> None:
        """Closes the connection that it has, if any."""
        self._source.disconnect()
