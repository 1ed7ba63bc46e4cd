from __future__ import annotations

import pytest

from hothouse import ServerError, events
from hothouse.events import EventParser, ServerSentEvent

TEXT = (
    ": alive\n\n"
    'event: started\nid: 0-0\ndata: {"exec_id": "é"}\n\n'
    "event: stdout\ndata: one\ndata: two\u2028three\x0bfour\nid: 4-0\n\n"
    ": alive\n\n"
    "event:finished\ndata:x\n\n"
    "data: no name\n\n"
).encode()
WANTED = [
    ServerSentEvent("started", "0-0", '{"exec_id": "é"}'),
    ServerSentEvent("stdout", "4-0", "one\ntwo\u2028three\x0bfour"),
    ServerSentEvent("finished", "", "x"),
]


def test_events_are_the_same_however_the_bytes_are_cut() -> None:
    for size in range(1, len(TEXT) + 1):
        parser = EventParser()
        found = [event for at in range(0, len(TEXT), size) for event in parser.feed(TEXT[at : at + size])]
        assert found == WANTED, size


def test_an_event_that_is_not_complete_is_none() -> None:
    assert EventParser().feed(b"event: stdout\ndata: x\n") == []


def test_what_never_ends_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "LONGEST_EVENT_BYTES", 10)
    with pytest.raises(ServerError, match="longer than 10 bytes"):
        EventParser().feed(b"x" * 11)
