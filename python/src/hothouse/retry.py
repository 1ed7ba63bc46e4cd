"""When a request may be sent again, and how long to wait before. Nothing here does I/O.

A request is sent again only where that cannot do anything twice: see `Repeat`.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from .errors import ConnectionFailed, HothouseError, LimitExceeded, RateLimited, ShuttingDown

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 4.0
LONGEST_RETRY_AFTER_S = 30.0


class Repeat(enum.Enum):
    """How often a request may be acted upon."""

    SAFE = "safe"
    """Twice is as good as once: it reads, it sets, or it carries an id by which the server knows it again."""

    UNSEEN = "unseen"
    """Only once: it is sent again only when the server surely did not act on it."""


class AnswerLate(ConnectionFailed):
    """The connection stands but no answer came within the client's timeout. It is not sent again by itself."""


@contextmanager
def failures_told() -> Iterator[None]:
    """Turns what the transport raises into `ConnectionFailed`."""
    try:
        yield
    except httpx.TransportError as error:
        raise failure_of(error) from error


def failure_of(error: httpx.TransportError) -> ConnectionFailed:
    """The error for a transport's."""
    detail = str(error) or type(error).__name__
    if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
        return ConnectionFailed(f"cannot reach the server: {detail}", maybe_received=False)
    if isinstance(error, (httpx.PoolTimeout, httpx.UnsupportedProtocol, httpx.LocalProtocolError)):
        return ConnectionFailed(f"the request was not sent: {detail}", maybe_received=False)
    if isinstance(error, httpx.ReadTimeout):
        return AnswerLate("the server did not answer within the client's timeout", maybe_received=True)
    return ConnectionFailed(f"the connection broke: {detail}", maybe_received=True)


@dataclass(frozen=True)
class Policy:
    """How often to send again: at most `retries` times, with delays that double from 0.1 s to 4 s."""

    retries: int

    def delay(self, attempt: int, error: HothouseError, repeat: Repeat) -> float | None:
        """Seconds to wait before sending again after this error of attempt 0, 1, …; None to give up."""
        if attempt >= self.retries or not may_repeat(error, repeat):
            return None
        # Half of it by chance, so that clients that failed together do not come back together.
        backoff = min(FIRST_DELAY_S * 2.0**attempt, LONGEST_DELAY_S) * random.uniform(0.5, 1.0)
        return backoff + min(error.retry_after_s, LONGEST_RETRY_AFTER_S)


def may_repeat(error: HothouseError, repeat: Repeat) -> bool:
    """True when sending the request again can do nothing twice and may help."""
    if isinstance(error, AnswerLate):
        return False
    if isinstance(error, ConnectionFailed):
        return repeat is Repeat.SAFE or not error.maybe_received
    if isinstance(error, (LimitExceeded, RateLimited, ShuttingDown)):
        # Hothouse's own word that it did not act on it. Room and quotas are waited for with `wait_s`, in the server's
        # queue: whoever asks again and again is never served before those who wait there.
        return True
    # Without a problem document it comes from something in between, which may have passed the request on.
    return error.status in (429, 503) and error.problem is None and repeat is Repeat.SAFE


def seconds(retry_after: str | None) -> float:
    """What a `Retry-After` header asks for; dates are not taken, since Hothouse sends none."""
    if retry_after is None or not retry_after.isascii() or not retry_after.isdigit():
        return 0.0
    return float(retry_after)
