"""Server-sent events, taken apart as their bytes come. Nothing here does I/O."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import ServerError

LONGEST_EVENT_BYTES = 64 << 20
"""No event of Hothouse is near that: output comes in pieces, and a result is bounded by its output limit."""


@dataclass
class ServerSentEvent:
    """One event; `id` is what `Last-Event-ID` takes to go on after it."""

    name: str
    id: str
    data: str


class EventParser:
    """Takes bytes of a stream and gives back the events that are complete."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, piece: bytes) -> list[ServerSentEvent]:
        """Takes the next bytes. Comments, which keep a quiet connection alive, give nothing."""
        searched = max(len(self._rest) - 1, 0)
        self._rest += piece
        events = []
        while (end := self._rest.find(b"\n\n", searched)) >= 0:
            block = self._rest[:end].decode("utf-8")
            del self._rest[: end + 2]
            searched = 0
            event = _event_of(block)
            if event is not None:
                events.append(event)
        if len(self._rest) > LONGEST_EVENT_BYTES:
            raise ServerError(f"an event is longer than {LONGEST_EVENT_BYTES} bytes; this is no event stream")
        return events


def _event_of(block: str) -> ServerSentEvent | None:
    name, event_id, data = "", "", []
    # Not splitlines(): JSON may hold other characters that Python takes for line ends.
    for line in block.split("\n"):
        field, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if field == "event":
            name = value
        elif field == "id":
            event_id = value
        elif field == "data":
            data.append(value)
    return ServerSentEvent(name, event_id, "\n".join(data)) if name else None
