# Generated from ../_async by generate_sync.py: edit that, then run it.
"""What happens to sandboxes, followed over connections that break and servers that are killed."""

from __future__ import annotations

import httpx
import pytest

import hothouse
from hothouse import Client, Event, Missed

from ..faults import Answering, Breaking, Cutting, is_to
from ..server import Server


def test_events_come_as_they_happen(client: Client) -> None:
    seen: list[Event] = []
    with client.create(id="looked-at") as sandbox, client.group(2, id="beside") as group:
        with client.events(after="0", sandbox_id="looked-at") as events:
            for event in events:
                assert isinstance(event, Event)
                seen.append(event)
                if len(seen) == 2:
                    break
                sandbox.delete()
        with client.events(after="0", group="beside") as events:
            for event in events:
                assert isinstance(event, Event)
                assert (event.event, event.group) == ("created", "beside")
                if event.sandbox_id == group[1].id:
                    break
    created, ended = seen
    assert (created.event, created.sandbox_id, created.ending) == ("created", "looked-at", None)
    assert (ended.event, ended.sandbox_id) == ("ended", "looked-at")
    assert ended.ending is not None
    assert ended.ending.cause == "deleted"
    assert ended.seq > created.seq
    with client.events(after=created.id, sandbox_id="looked-at") as events:
        for event in events:
            assert event == ended
            break


def test_a_follower_goes_on_behind_the_last_event(server: Server) -> None:
    transport = Cutting(is_to("GET", "/v1/events"), times=2)
    seen: list[Event] = []
    with Client(server.url, transport=transport) as client:
        sandbox = client.create(id="cut")
        with client.events(after="0", sandbox_id="cut") as events:
            for event in events:
                assert isinstance(event, Event)
                seen.append(event)
                if len(seen) == 2:
                    break
                sandbox.delete()
    assert [event.event for event in seen] == ["created", "ended"]
    assert [request.headers["last-event-id"] for request in transport.seen][:2] == ["0", seen[0].id]


def test_a_follower_is_told_that_another_server_has_started(own_server: Server) -> None:
    seen: list[hothouse.Event | hothouse.Missed] = []
    with Client(own_server.url) as client:
        with client.create() as sandbox, client.events(after="0") as events:
            for event in events:
                seen.append(event)
                if len(seen) == 1:
                    own_server.kill()
                    own_server.start()
                if len(seen) == 3:
                    break
            created, missed, adopted = seen
            assert isinstance(created, Event)
            assert isinstance(missed, Missed)
            assert missed.reason is not None
            assert isinstance(adopted, Event)
            assert (adopted.event, adopted.sandbox_id) == ("adopted", sandbox.id)


def test_what_happened_before_the_first_event_may_have_been_missed(server: Server) -> None:
    broken = httpx.ReadError("the test cut the answer off")

    def cut(request: httpx.Request) -> httpx.Response:
        stream = Breaking(b": alive\n\n", broken)
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=stream, request=request)

    transport = Answering(is_to("GET", "/v1/events"), 1, cut)
    with Client(server.url, transport=transport) as client, client.events() as events:
        for event in events:
            assert isinstance(event, Missed)
            break
    assert len(transport.seen) == 2


def test_a_wrong_id_of_an_event_is_said(client: Client) -> None:
    with client.events(after="nonsense") as events:
        with pytest.raises(hothouse.InvalidRequest):
            events.__iter__().__next__()
