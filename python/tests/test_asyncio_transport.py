"""The transport of the asynchronous half, at peers that behave well and badly, and at the real server."""

from __future__ import annotations

import asyncio
import gc
import ssl
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from hothouse import AsyncClient
from hothouse.asyncio_transport import AsyncioTransport

from .server import Server

Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BRIEF_S = 0.2


class Peers:
    """A TCP server whose connections do what they are told; counts them."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._peer(reader, writer)
        except (ConnectionError, EOFError):
            # The client went away, as some tests have it.
            pass
        finally:
            writer.close()


@asynccontextmanager
async def peers(peer: Peer) -> AsyncIterator[tuple[Peers, str]]:
    served = Peers(peer)
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield served, f"http://{host}:{port}/"
    finally:
        server.close()


async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.readuntil(b"\r\n\r\n"):
        writer.write(OK)


def request(url: str, content: bytes | AsyncIterator[bytes] = b"") -> httpx.Request:
    timeout = {"connect": 10.0, "read": 10.0, "write": 10.0, "pool": None}
    return httpx.Request("POST", url, content=content, extensions={"timeout": timeout})


def transport(max_connections: int = 10, keepalive_s: float = 30.0) -> AsyncioTransport:
    return AsyncioTransport(None, max_connections, keepalive_s)


async def got(used: AsyncioTransport, sent: httpx.Request) -> tuple[int, bytes]:
    response = await used.handle_async_request(sent)
    return response.status_code, await response.aread()


async def test_a_connection_is_used_again_until_it_was_idle_for_too_long() -> None:
    async with peers(answers) as (served, url), transport() as used:
        for _ in range(3):
            assert await got(used, request(url)) == (200, b"ok")
        assert served.connections == 1
    async with peers(answers) as (served, url), transport(keepalive_s=0.0) as used:
        for _ in range(3):
            assert await got(used, request(url)) == (200, b"ok")
        assert served.connections == 3


async def test_a_connection_that_the_peer_closed_is_not_used_again() -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)

    async with peers(once) as (served, url), transport() as used:
        for _ in range(5):
            assert await got(used, request(url)) == (200, b"ok")
            # The close arrives in a turn of the loop of its own.
            while used._idle and used._idle[0].fresh(30.0):
                await asyncio.sleep(0)
        assert served.connections == 5


async def test_no_more_connections_than_allowed_are_open() -> None:
    open_now, most = 0, 0

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now, most
        while await reader.readuntil(b"\r\n\r\n"):
            open_now += 1
            most = max(most, open_now)
            await asyncio.sleep(0)
            open_now -= 1
            writer.write(OK)

    async with peers(count) as (served, url), transport(max_connections=3) as used:
        found = await asyncio.gather(*(got(used, request(url)) for _ in range(30)))
        assert found == [(200, b"ok")] * 30
        assert served.connections <= 3
        assert most <= 3


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"", httpx.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", httpx.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", httpx.RemoteProtocolError),
        (b"SSH-2.0-OpenSSH\r\n\r\n", httpx.RemoteProtocolError),
    ],
)
async def test_an_answer_that_is_none_is_an_error(said: bytes, error: type[Exception]) -> None:
    async def wrong(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)

    async with peers(wrong) as (_, url), transport() as used:
        for _ in range(12):
            with pytest.raises(error):
                await got(used, request(url))


async def test_silence_is_a_timeout_and_frees_the_place() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with peers(silent) as (served, url), transport(max_connections=1) as used:
        for _ in range(2):
            sent = request(url)
            sent.extensions["timeout"]["read"] = BRIEF_S
            with pytest.raises(httpx.ReadTimeout):
                await got(used, sent)
        assert served.connections == 2


async def test_a_peer_that_takes_nothing_is_a_timeout() -> None:
    release = asyncio.Event()

    async def stuck(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1 << 20)

    async with peers(stuck) as (_, url), transport() as used:
        sent = request(url, endless())
        sent.extensions["timeout"]["write"] = BRIEF_S
        with pytest.raises(httpx.WriteTimeout):
            await got(used, sent)
        release.set()


async def test_an_answer_that_comes_early_ends_the_sending() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await reader.read()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1000
            await asyncio.sleep(0)

    async with peers(refuse) as (_, url), transport() as used:
        assert await got(used, request(url, endless())) == (413, b"no")
        assert used._idle == [], "half a request was sent, so the connection is of no more use"


async def test_nobody_there_and_no_tls_are_connect_errors() -> None:
    async with transport() as used:
        with pytest.raises(httpx.ConnectError):
            await got(used, request("http://127.0.0.1:9/"))

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)

    async with peers(plain) as (_, url), AsyncioTransport(ssl.create_default_context(), 1, 1.0) as used:
        with pytest.raises(httpx.ConnectError):
            await got(used, request(url.replace("http:", "https:")))


async def test_a_cancelled_request_frees_the_place_and_leaves_the_exec(server: Server) -> None:
    async with AsyncClient(server.url) as client, await client.create() as sandbox:
        line = "while [ ! -e /tmp/go ]; do sleep 0.02; done; echo done"
        running = asyncio.ensure_future(sandbox.run(line, exec_id="left"))
        while not await sandbox.execs():
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await sandbox.files.write_bytes("/tmp/go", b"")
        assert (await sandbox.exec("left").wait(30)).stdout == "done\n"


async def test_many_at_once_get_their_own_answers(server: Server) -> None:
    async with AsyncClient(server.url) as client, await client.create() as sandbox:
        results = await asyncio.gather(*(sandbox.run(["echo", str(number)]) for number in range(100)))
        assert [result.stdout for result in results] == [f"{number}\n" for number in range(100)]


def test_a_client_outlives_its_event_loop(server: Server) -> None:
    client = AsyncClient(server.url)

    async def ask() -> str:
        return (await client.health()).status

    with warnings.catch_warnings():
        # A connection that a loop left open when it ended is nobody's to close any more.
        warnings.simplefilter("ignore", ResourceWarning)
        assert [asyncio.run(ask()) for _ in range(3)] == ["ok"] * 3
        asyncio.run(client.close())
        gc.collect()
