"""Threads are few, and watched steps are taken away once."""

from __future__ import annotations

import threading

from hothouse.worker.threads import Threads, Watch

from ..patience import PATIENCE_S, until


def test_more_jobs_than_threads_wait_for_one() -> None:
    threads = Threads(most=2)
    go, done = threading.Event(), threading.Semaphore(0)

    def job() -> None:
        assert go.wait(PATIENCE_S)
        done.release()

    for _ in range(10):
        threads.run(job)
    assert (threads.count, threads.has_room()) == (2, False)
    go.set()
    assert all(done.acquire(timeout=PATIENCE_S) for _ in range(10))
    until("a free thread", threads.has_room)
    threads.run(done.release)
    assert done.acquire(timeout=PATIENCE_S)
    assert threads.count == 2, "those that are free are used again"


def test_what_takes_long_is_taken_away_once() -> None:
    passed: list[object] = []
    heard = threading.Event()

    def pass_on(taken: object, computes: bool) -> None:
        passed.append(taken)
        heard.set()

    watch = Watch(pass_on, lambda: True)
    at_hand: list[object] = []
    watch.follow(at_hand)
    watch.start()
    long = object()
    at_hand.append(long)
    assert heard.wait(PATIENCE_S)
    assert passed == [long]
    assert at_hand == []


def test_a_watch_with_nothing_to_see_sleeps_until_it_is_woken() -> None:
    heard = threading.Event()
    watch = Watch(lambda taken, computes: heard.set(), lambda: True)
    at_hand: list[object] = []
    watch.follow(at_hand)
    watch.start()
    until("its sleep", lambda: watch.asleep)
    watch.active = True
    at_hand.append(object())
    watch.wake()
    assert heard.wait(PATIENCE_S)
