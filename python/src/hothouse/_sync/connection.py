# Generated from ../_async by generate_sync.py: edit that, then run it.
"""Requests to one server: sent, sent again where that is safe, and answered or raised as an error."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Optional, Union

import httpx

from ..errors import ConnectionFailed, HothouseError, ServerError, problem_of
from ..local import private_server
from ..retry import Policy, Repeat, failures_told, seconds
from .seam import Transport, blocking, blocks_of, http_transport, pause

SERVER_VARIABLE = "HOTHOUSE_SERVER"
KEY_VARIABLE = "HOTHOUSE_API_KEY"
LOCAL = "local"
"""The address that stands for the private server of this process."""
CONNECT_S = 10.0
MAX_CONNECTIONS = 1024
"""At once; further requests wait for a free one. The server takes 4,096."""
KEEPALIVE_S = 30.0
"""The server ends a connection that was idle for 60 s; this side has to be first."""

Content = Union[bytes, Callable[[], Iterator[bytes]]]
"""A body: bytes, or what makes its pieces anew for each attempt."""
NO_HEADERS: dict[str, str] = {}


@dataclass
class Reply:
    """An answer. `resent` is True when the server may have seen an earlier attempt of the same request."""

    status: int
    headers: httpx.Headers
    content: bytes
    resent: bool

    def json(self) -> Any:
        """The body, which is JSON. Raises `ServerError` when it is none."""
        try:
            return json.loads(self.content)
        except ValueError as error:
            start = self.content[:200].decode("utf-8", "replace")
            raise ServerError(f"the answer is not JSON but {start!r}", status=self.status) from error


class Connection:
    """A way to one server; holds its connections open until `close()`."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None,
        timeout: float,
        retries: int,
        transport: Transport | None,
    ) -> None:
        self.timeout = timeout
        self.retries = retries
        self._policy = Policy(retries)
        key = api_key if api_key is not None else os.environ.get(KEY_VARIABLE)
        self._authorization = f"Bearer {key}" if key else None
        self._transport = transport
        self._choosing = threading.Lock()
        self._base: Optional[httpx.URL] = None
        self._prefix = ""
        self._plain = httpx.Headers()
        self._json = httpx.Headers()
        self._read_timeout = self._timeouts(timeout)
        if base_url != LOCAL:
            self._use(base_url)

    def _use(self, base_url: str) -> None:
        base = httpx.URL(base_url)
        if base.scheme not in ("http", "https") or not base.host:
            raise ValueError(f"{base_url!r} is no address of a server; they look like http://127.0.0.1:8700")
        self._prefix = base.raw_path.decode("ascii").partition("?")[0].rstrip("/")
        if self._transport is None:
            self._transport = http_transport(base.scheme == "https", MAX_CONNECTIONS, KEEPALIVE_S)
        # Made once: a request copies them instead of normalizing them again.
        self._plain = httpx.Headers({"host": base.netloc.decode("ascii"), "user-agent": "hothouse-python"})
        if self._authorization:
            self._plain["authorization"] = self._authorization
        self._json = self._plain.copy()
        self._json["content-type"] = "application/json"
        self._base = base

    @property
    def base_url(self) -> str | None:
        """The server's address; None while it is a private server that nothing was asked of yet."""
        return None if self._base is None else str(self._base)

    def _ready(self) -> tuple[httpx.URL, Transport]:
        if self._base is None:
            server = blocking(private_server)
            with self._choosing:
                # Threads may share a client; the first of them decides.
                if self._base is None:
                    self._use(server.url)
        assert self._base is not None
        assert self._transport is not None
        return self._base, self._transport

    def url(self, target: str) -> httpx.URL:
        """The URL of a path with its query, to be kept where many requests go to the same one."""
        assert self._base is not None
        return self._base.copy_with(raw_path=(self._prefix + target).encode("ascii"))

    def send(
        self,
        method: str,
        target: str | httpx.URL,
        content: Content = b"",
        *,
        media_type: str | None = "application/json",
        headers: dict[str, str] = NO_HEADERS,
        repeat: Repeat = Repeat.SAFE,
        wait_s: float = 0.0,
    ) -> Reply:
        """Sends a request and takes the whole answer; `wait_s` is how long the server may rightly take for it.

        Raises `ConnectionFailed` when none came, and the problem's class for an answer that is one.
        """
        attempt, resent = 0, False
        while True:
            error: HothouseError
            try:
                with failures_told():
                    response = self._attempt(method, target, content, media_type, headers, wait_s)
                    body = response.read()
                if response.status_code < 300:
                    return Reply(response.status_code, response.headers, body, resent)
                error = _refused(response, body)
            except ConnectionFailed as failed:
                error = failed
                resent = resent or failed.maybe_received
            delay = self._policy.delay(attempt, error, repeat)
            if delay is None:
                raise _marked(error, resent)
            pause(delay)
            attempt += 1

    def open(
        self,
        method: str,
        target: str,
        content: bytes = b"",
        *,
        headers: dict[str, str] = NO_HEADERS,
        quiet_s: float = 0.0,
    ) -> httpx.Response:
        """Sends a request once and gives the answer as soon as it begins; the caller reads and closes it.

        `quiet_s` is how long the body may pause. Raises as `send()` does.
        """
        with failures_told():
            response = self._attempt(method, target, content, "application/json", headers, quiet_s)
            if response.status_code >= 300:
                try:
                    body = response.read()
                finally:
                    response.close()
                raise _refused(response, body)
        return response

    def _attempt(
        self,
        method: str,
        target: str | httpx.URL,
        content: Content,
        media_type: str | None,
        headers: dict[str, str],
        wait_s: float,
    ) -> httpx.Response:
        _, transport = self._ready()
        sent = self._json if media_type == "application/json" and content else self._plain
        if headers or (content and sent is self._plain):
            sent = sent.copy()
            if content and media_type is not None:
                sent["content-type"] = media_type
            sent.update(headers)
        request = httpx.Request(
            method,
            target if isinstance(target, httpx.URL) else self.url(target),
            headers=sent,
            content=content if isinstance(content, bytes) else blocks_of(content()),
            extensions={"timeout": self._timeouts(self.timeout + wait_s) if wait_s else self._read_timeout},
        )
        return transport.handle_request(request)

    def _timeouts(self, read_s: float) -> dict[str, Optional[float]]:
        # Waiting for a free connection has no limit: what holds them ends by itself.
        return {"connect": min(CONNECT_S, self.timeout), "read": read_s, "write": self.timeout, "pool": None}

    def backoff(self, attempt: int, error: HothouseError) -> bool:
        """Waits before a request is made again by the caller's own means; False when it is time to give up."""
        delay = self._policy.delay(attempt, error, Repeat.SAFE)
        if delay is None:
            return False
        pause(delay)
        return True

    def close(self) -> None:
        """Closes its connections."""
        if self._transport is not None:
            self._transport.close()


def _refused(response: httpx.Response, body: bytes) -> HothouseError:
    error = problem_of(response.status_code, body)
    error.retry_after_s = seconds(response.headers.get("retry-after"))
    return error


def _marked(error: HothouseError, resent: bool) -> HothouseError:
    error.resent = resent
    return error
