"""Carries the requests of the asynchronous half: HTTP/1.1 to one server, on asyncio, with connections kept open.

It is here for its cost. httpx's own transport goes through several locks of anyio for each request, each of which is
a turn of the event loop: together more than a millisecond where this takes half of one, of which parsing is the most.
Errors are httpx's, so nothing else has to know which of the two is in use.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any, Optional, Union

import h11
import httpx

READ_AHEAD = 1 << 20
"""So many bytes may wait to be read; then the peer is made to wait."""
Timeout = Optional[float]


class _Wire(asyncio.Protocol):
    """One TCP connection: bytes out, and bytes in that wait to be read, also those that came before it broke."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._received = bytearray()
        self._reader: Optional[asyncio.Future[None]] = None
        self._writer: Optional[asyncio.Future[None]] = None
        self._writable = True
        self._paused = False
        self._error: Optional[Exception] = None
        self._lost = False
        self.ended = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) > READ_AHEAD and not self._paused:
            self._paused = True
            self.transport.pause_reading()
        _wake(self._reader)

    def eof_received(self) -> None:
        self.ended = True
        _wake(self._reader)

    def connection_lost(self, error: Exception | None) -> None:
        self.ended = self._lost = True
        self._error = error
        _wake(self._reader)
        _wake(self._writer)

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        _wake(self._writer)

    def abort(self) -> None:
        # One that is lost has no loop any more in older Pythons.
        if not self._lost:
            self.transport.abort()

    @property
    def quiet(self) -> bool:
        """True when nothing came that was not asked for, its end included."""
        return not self.ended and not self._received

    async def read(self, timeout: Timeout) -> bytes:
        """What came, at least one byte; none at the end."""
        if self.quiet:
            self._reader = self._loop.create_future()
            late = httpx.ReadTimeout("nothing came for too long")
            await _awaited(self._loop, self._reader, timeout, late)
        if not self._received and self._error is not None:
            raise httpx.ReadError(str(self._error)) from self._error
        data = bytes(self._received)
        self._received.clear()
        if self._paused:
            self._paused = False
            self.transport.resume_reading()
        return data

    async def write(self, data: bytes, timeout: Timeout) -> None:
        """Sends bytes; returns once there is room for more."""
        self.transport.write(data)
        if not self._writable and not self.ended:
            self._writer = self._loop.create_future()
            await _awaited(self._loop, self._writer, timeout, httpx.WriteTimeout("nothing was taken for too long"))


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)


async def _awaited(
    loop: asyncio.AbstractEventLoop, waiting: asyncio.Future[None], timeout: Timeout, late: Exception
) -> None:
    def expire() -> None:
        if not waiting.done():
            waiting.set_exception(late)

    # A timer costs a hundredth of what asyncio.wait_for does, which makes a task.
    timer = loop.call_later(timeout, expire) if timeout is not None else None
    try:
        await waiting
    finally:
        if timer is not None:
            timer.cancel()


class _Connection:
    """HTTP/1.1 over one wire."""

    def __init__(self, wire: _Wire) -> None:
        self._wire = wire
        self._http = h11.Connection(h11.CLIENT)
        self.idle_since = 0.0

    def reusable(self) -> bool:
        """True, and ready for the next request, when both sides are done with the last."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE or not self._wire.quiet:
            return False
        self._http.start_next_cycle()
        self.idle_since = time.monotonic()
        return True

    def fresh(self, keepalive_s: float) -> bool:
        """True when it may still be used after it was idle."""
        return self._wire.quiet and time.monotonic() - self.idle_since < keepalive_s

    def abort(self) -> None:
        self._wire.abort()

    async def send(self, request: httpx.Request, timeout: Timeout) -> None:
        """Sends a request; stops where the answer comes before its end, since that is no success."""
        head = h11.Request(method=request.method, target=request.url.raw_path, headers=request.headers.raw)
        data = self._bytes_of(head)
        if isinstance(request.stream, httpx.ByteStream):
            # In one piece, so that the server is woken once.
            parts = [self._bytes_of(h11.Data(data=part)) for part in request.stream if part]
            await self._wire.write(b"".join([data, *parts, self._bytes_of(h11.EndOfMessage())]), timeout)
            return
        assert isinstance(request.stream, httpx.AsyncByteStream)
        await self._wire.write(data, timeout)
        async for part in request.stream:
            if not self._wire.quiet:
                return
            await self._wire.write(self._bytes_of(h11.Data(data=part)), timeout)
        await self._wire.write(self._bytes_of(h11.EndOfMessage()), timeout)

    def _bytes_of(self, event: Union[h11.Request, h11.Data, h11.EndOfMessage]) -> bytes:
        return self._http.send(event) or b""

    async def event(self, timeout: Timeout) -> Any:
        """The next event of the answer."""
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event
            data = await self._wire.read(timeout)
            if not data and self._http.their_state is h11.SEND_RESPONSE:
                raise httpx.RemoteProtocolError("the server closed the connection without an answer")
            self._http.receive_data(data)


class _Body(httpx.AsyncByteStream):
    """The body of an answer; its connection is free again once it is read or closed."""

    def __init__(self, transport: AsyncioTransport, connection: _Connection, timeout: Timeout) -> None:
        self._transport = transport
        self._connection: Optional[_Connection] = connection
        self._timeout = timeout

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self._connection is not None:
            try:
                event = await self._connection.event(self._timeout)
            except BaseException as error:
                # Nobody reads on after that, and not everybody closes.
                await self.aclose()
                if isinstance(error, h11.RemoteProtocolError):
                    raise httpx.RemoteProtocolError(str(error)) from error
                raise
            if isinstance(event, h11.EndOfMessage):
                await self.aclose()
            elif isinstance(event, h11.Data):
                yield bytes(event.data)

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._transport.give_back(connection)


class AsyncioTransport(httpx.AsyncBaseTransport):
    """A transport to one server. At most `max_connections` are open at once; further requests wait for a free one."""

    def __init__(self, verify: ssl.SSLContext | None, max_connections: int, keepalive_s: float) -> None:
        self._ssl = verify
        self._max_connections = max_connections
        self._keepalive_s = keepalive_s
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._idle: list[_Connection] = []
        self._free: asyncio.Semaphore

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends a request and gives its answer, the body still to be read."""
        timeouts = request.extensions["timeout"]
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            # Of a loop that has ended, with all its connections.
            self._loop, self._idle = loop, []
            self._free = asyncio.Semaphore(self._max_connections)
        await self._free.acquire()
        connection = None
        try:
            connection = self._taken() or await self._connected(loop, request.url, timeouts["connect"])
            await connection.send(request, timeouts["write"])
            event = await connection.event(timeouts["read"])
            while isinstance(event, h11.InformationalResponse):
                event = await connection.event(timeouts["read"])
        except BaseException as error:
            self._free.release()
            if connection is not None:
                connection.abort()
            if isinstance(error, h11.LocalProtocolError):
                raise httpx.LocalProtocolError(str(error)) from error
            if isinstance(error, h11.RemoteProtocolError):
                raise httpx.RemoteProtocolError(str(error)) from error
            raise
        body = _Body(self, connection, timeouts["read"])
        return httpx.Response(event.status_code, headers=event.headers.raw_items(), stream=body)

    def _taken(self) -> _Connection | None:
        # The last one used is the one that is least likely to have been closed.
        while self._idle:
            connection = self._idle.pop()
            if connection.fresh(self._keepalive_s):
                return connection
            connection.abort()
        return None

    async def _connected(self, loop: asyncio.AbstractEventLoop, url: httpx.URL, timeout: Timeout) -> _Connection:
        tls = self._ssl if url.scheme == "https" else None
        port = url.port or (443 if url.scheme == "https" else 80)
        connecting = loop.create_connection(lambda: _Wire(loop), url.host, port, ssl=tls)
        try:
            _, wire = await asyncio.wait_for(connecting, timeout)
        except asyncio.TimeoutError as error:
            raise httpx.ConnectTimeout(f"{url.host}:{port} did not answer within {timeout} s") from error
        except OSError as error:
            raise httpx.ConnectError(str(error)) from error
        return _Connection(wire)

    def give_back(self, connection: _Connection) -> None:
        """Takes a connection back whose answer was read, or is not wanted any more."""
        if connection.reusable():
            self._idle.append(connection)
        else:
            connection.abort()
        self._free.release()

    async def aclose(self) -> None:
        """Closes the connections that are not in use."""
        idle, self._idle = self._idle, []
        if self._loop is asyncio.get_running_loop():
            for connection in idle:
                connection.abort()
            # The loop closes them in its next turn, which may be its last.
            await asyncio.sleep(0)
