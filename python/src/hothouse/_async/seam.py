"""Where the asynchronous and the blocking half differ: how one waits, and what carries bytes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Any, TypeVar, cast

import anyio
import anyio.from_thread
import anyio.to_thread
import httpx

from ..asyncio_transport import AsyncioTransport
from ..retry import failures_told

Transport = httpx.AsyncBaseTransport
Blocks = AsyncIterator[bytes]
T = TypeVar("T")
Flow = AsyncGenerator[T, None]
"""Values that come one by one and can be closed."""


def http_transport(encrypted: bool, max_connections: int, keepalive_s: float) -> Transport:
    """What carries requests when the user brings nothing. Certificates are read only where they are used."""
    return AsyncioTransport(httpx.create_ssl_context() if encrypted else None, max_connections, keepalive_s)


async def pause(seconds: float) -> None:
    """Waits for a time."""
    await anyio.sleep(seconds)


async def blocking(function: Callable[..., T], *arguments: Any) -> T:
    """Calls a function that blocks, without holding up anybody else."""
    return await anyio.to_thread.run_sync(function, *arguments)


async def blocks_of(pieces: Iterator[bytes]) -> Blocks:
    """Pieces that are read from the disk, as a request's body takes them."""
    while piece := await blocking(next, pieces, b""):
        yield piece


def raw_pieces(response: httpx.Response) -> Flow[bytes]:
    """The bytes of an answer as they come."""
    return cast("Flow[bytes]", response.aiter_raw())


async def next_piece(pieces: Flow[bytes]) -> bytes:
    """The next bytes, at least one; none at the end."""
    with failures_told():
        async for piece in pieces:
            if piece:
                return piece
    return b""


async def fed(response: httpx.Response, take: Callable[[Callable[[], bytes]], T]) -> T:
    """Calls a function that blocks and asks for the next bytes of an answer again and again; none at the end.

    The answer is closed afterwards.
    """
    pieces = raw_pieces(response)
    try:
        return await blocking(take, lambda: anyio.from_thread.run(next_piece, pieces))
    finally:
        await pieces.aclose()
        await response.aclose()
