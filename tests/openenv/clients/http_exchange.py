"""HTTP as bytes: no client in between that forgives anything."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit


class Answer:
    """What a server answered."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    def json(self) -> Any:
        """The body, which has to say of itself that it is JSON."""
        kind = self.headers.get("content-type")
        assert kind == "application/json", f"content-type {kind} {self}"
        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"{self.status} {self.text[:300]}"


def exchange(
    url: str, method: str, path: str, body: Any = None, *, content_type: str | None = "application/json"
) -> Answer:
    """One request on a connection of its own. A body that is not bytes is sent as JSON."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": content_type} if content is not None and content_type else {}
        connection.request(method, f"{parts.path}{path}", content, headers)
        answer = connection.getresponse()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def less_urls(value: Any) -> Any:
    """A list of errors less each one's `url`, which names a version of pydantic."""
    if isinstance(value, dict):
        return {key: less_urls(one) for key, one in value.items() if key != "url"}
    if isinstance(value, list):
        return [less_urls(one) for one in value]
    return value
