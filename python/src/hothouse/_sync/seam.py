"""Where the asynchronous and the blocking half differ: how one waits, and what carries bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeVar, cast

import httpx

from ..retry import failures_told

Transport = httpx.BaseTransport
Blocks = Iterator[bytes]
T = TypeVar("T")
Flow = Generator[T, None, None]
"""Values that come one by one and can be closed."""


def http_transport(encrypted: bool, max_connections: int, keepalive_s: float) -> Transport:
    """What carries requests when the user brings nothing. Certificates are read only where they are used."""
    limits = httpx.Limits(
        max_connections=max_connections, max_keepalive_connections=max_connections, keepalive_expiry=keepalive_s
    )
    return httpx.HTTPTransport(verify=encrypted, limits=limits)


def pause(seconds: float) -> None:
    """Waits for a time."""
    time.sleep(seconds)


def blocking(function: Callable[..., T], *arguments: Any) -> T:
    """Calls a function that blocks."""
    return function(*arguments)


def blocks_of(pieces: Iterator[bytes]) -> Blocks:
    """Pieces that are read from the disk, as a request's body takes them."""
    return pieces


def raw_pieces(response: httpx.Response) -> Flow[bytes]:
    """The bytes of an answer as they come."""
    return cast("Flow[bytes]", response.iter_raw())


def next_piece(pieces: Flow[bytes]) -> bytes:
    """The next bytes, at least one; none at the end."""
    with failures_told():
        for piece in pieces:
            if piece:
                return piece
    return b""


def fed(response: httpx.Response, take: Callable[[Callable[[], bytes]], T]) -> T:
    """Calls a function that asks for the next bytes of an answer again and again; none at the end.

    The answer is closed afterwards.
    """
    pieces = raw_pieces(response)
    try:
        return take(lambda: next_piece(pieces))
    finally:
        pieces.close()
        response.close()
