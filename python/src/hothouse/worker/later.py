"""The event loop, on which coroutines of environments run: one thread, begun when the first one comes."""

from __future__ import annotations

import asyncio
import threading
from typing import Callable, Optional

from .answers import Answers, Seat
from .frames import Request

Next = Callable[[Seat, bytes], Optional[Request]]
"""Takes an answer and gives the session's next request, if that is one for the loop."""


class Later:
    """Answers requests on the loop, many of them at the same time, those of one session in turn."""

    def __init__(self, answers: Answers, next_of: Next, flush: Callable[[], None]) -> None:
        self._answers = answers
        self._next_of = next_of
        self._flush = flush
        self._taken: list[tuple[Seat, Request]] = []
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._lock = threading.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flushes = False

    def take(self, seat: Seat, request: Request) -> None:
        """Takes a request, to be handed over with others."""
        self._taken.append((seat, request))

    def hand_over(self) -> None:
        """Gives the loop what was taken."""
        if not self._taken:
            return
        with self._lock:
            taken = self._taken[:]
            del self._taken[: len(taken)]
            loop = self._loop or self._started()
        loop.call_soon_threadsafe(self._begin, taken)

    def _started(self) -> asyncio.AbstractEventLoop:
        loop = self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._run, args=(loop,), name="hothouse-loop", daemon=True).start()
        return loop

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        loop.run_forever()

    def _begin(self, taken: list[tuple[Seat, Request]]) -> None:
        assert self._loop is not None
        for seat, request in taken:
            task = self._loop.create_task(self._serve(seat, request))
            # The loop itself does not hold on to it.
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, seat: Seat, request: Request) -> None:
        """Answers a request, and what has come for its session meanwhile, as long as that is for the loop."""
        following: Optional[Request] = request
        while following is not None:
            reply = await self._answers.answered_later(seat, following)
            following = self._next_of(seat, reply)
            self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._flushes:
            assert self._loop is not None
            self._flushes = True
            self._loop.call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self._flushes = False
        self._flush()
