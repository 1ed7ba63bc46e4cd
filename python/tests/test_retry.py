from __future__ import annotations

import httpx
import pytest

import hothouse
from hothouse.errors import HothouseError, problem_of
from hothouse.retry import AnswerLate, Policy, Repeat, failure_of, failures_told, seconds

SAFE, UNSEEN = Repeat.SAFE, Repeat.UNSEEN
FULL = problem_of(429, b'{"code": "limit_exceeded", "detail": "full"}')
ROOM = problem_of(429, b'{"code": "capacity_exceeded", "detail": "no room"}')
QUOTA = problem_of(429, b'{"code": "quota_exceeded", "detail": "enough"}')
RATE = problem_of(429, b'{"code": "rate_limited", "detail": "slow down"}')
ENDING = problem_of(503, b'{"code": "shutting_down", "detail": "ending"}')


@pytest.mark.parametrize(
    ("error", "safe", "unseen"),
    [
        (failure_of(httpx.ConnectError("refused")), True, True),
        (failure_of(httpx.ConnectTimeout("slow")), True, True),
        (failure_of(httpx.PoolTimeout("busy")), True, True),
        (failure_of(httpx.ReadError("reset")), True, False),
        (failure_of(httpx.WriteError("reset")), True, False),
        (failure_of(httpx.WriteTimeout("slow")), True, False),
        (failure_of(httpx.RemoteProtocolError("closed")), True, False),
        (failure_of(httpx.ReadTimeout("slow")), False, False),
        (FULL, True, True),
        (ENDING, True, True),
        (RATE, True, True),
        (ROOM, False, False),
        (QUOTA, False, False),
        (problem_of(503, b"a proxy's"), True, False),
        (problem_of(429, b"a proxy's"), True, False),
        (problem_of(502, b"a proxy's"), False, False),
        (problem_of(500, b'{"code": "internal"}'), False, False),
        (problem_of(503, b'{"code": "unheard_of"}'), False, False),
        (problem_of(404, b'{"code": "sandbox_not_found"}'), False, False),
    ],
)
def test_only_what_can_do_nothing_twice_is_sent_again(error: HothouseError, safe: bool, unseen: bool) -> None:
    policy = Policy(retries=1)
    assert (policy.delay(0, error, SAFE) is not None) is safe
    assert (policy.delay(0, error, UNSEEN) is not None) is unseen
    assert policy.delay(1, error, SAFE) is None


def test_delays_double_within_bounds_and_by_chance() -> None:
    policy = Policy(retries=100)
    for attempt in range(100):
        delays = {policy.delay(attempt, FULL, SAFE) for _ in range(20)}
        longest = min(0.1 * 2**attempt, 4.0)
        assert all(delay is not None and longest / 2 <= delay <= longest for delay in delays)
        assert len(delays) > 1


def test_the_server_is_waited_for_as_long_as_it_says() -> None:
    full = problem_of(429, b'{"code": "limit_exceeded", "detail": "full"}')
    for asked, wanted in ((2.0, 2.0), (86400.0, 30.0)):
        full.retry_after_s = asked
        delay = Policy(retries=1).delay(0, full, UNSEEN)
        assert delay is not None
        assert wanted + 0.05 <= delay <= wanted + 0.1


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (None, 0.0),
        ("0", 0.0),
        ("3", 3.0),
        ("86400", 86400.0),
        ("-1", 0.0),
        ("1e9", 0.0),
        ("²", 0.0),
        ("Wed, 21 Oct", 0.0),
    ],
)
def test_retry_after_is_a_number_of_seconds(header: str | None, wanted: float) -> None:
    assert seconds(header) == wanted


def test_what_a_transport_raises_is_told_with_its_cause() -> None:
    with pytest.raises(hothouse.ConnectionFailed) as failed, failures_told():
        raise httpx.ReadError("reset by peer")
    assert isinstance(failed.value.__cause__, httpx.ReadError)
    assert failed.value.maybe_received
    assert "reset by peer" in str(failed.value)
    with pytest.raises(AnswerLate), failures_told():
        raise httpx.ReadTimeout("")
