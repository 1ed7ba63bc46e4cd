# Generated from ../_async by generate_sync.py: edit that, then run it.
"""Followed servers: what happens to their sandboxes, as it happens."""

from __future__ import annotations

import json
from typing import Union

from ..errors import error_of
from ..shapes.event import Event, Missed, happening_of, missed_of
from .connection import Connection
from .seam import Flow
from .source import PASSING, EventSource


class EventStream:
    """What happens to sandboxes: `Event`s, and `Missed` where some may have been missed. It has no end.

    Iterate over it, once. When the connection breaks, or another server starts, it goes on behind the last event.
    Used as a context manager it is closed at the end of the block.
    """

    def __init__(self, connection: Connection, path: str, after: str) -> None:
        """Follows at this path, behind the event with the id `after`."""
        # It does not know this object, so that both are gone, and the connection closed, once nobody iterates.
        self._events = _flow(connection, path, after)

    def __iter__(self) -> Flow[Union[Event, Missed]]:
        return self._events

    def __enter__(self) -> EventStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the following."""
        self._events.close()


def _flow(connection: Connection, path: str, last: str) -> Flow[Union[Event, Missed]]:
    source = EventSource(connection)
    followed = False
    try:
        while True:
            try:
                if not source.connected:
                    source.connect("GET", path, last_event_id=last)
                    if followed and not last:
                        yield Missed(reason="the connection broke before the first event came")
                    followed = True
                received = source.next()
            except PASSING as error:
                source.pause_after(error)
                continue
            body = json.loads(received.data)
            if received.name == "error":
                raise error_of(body)
            last = received.id or last
            source.progressed()
            yield missed_of(body) if received.name == "missed" else happening_of(received.id, body)
    finally:
        source.disconnect()
