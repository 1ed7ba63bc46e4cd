"""Threads beside the one that leads: as many as there are requests that wait for something, and no more."""

from __future__ import annotations

import queue
import sys
import threading
import time
from typing import Any, Callable

MOST_THREADS = 1024
"""More requests than that do not wait for something at the same time; the next ones wait for a thread."""
IDLE_S = 10.0
"""A thread with nothing to do for so long ends."""

Job = Callable[[], None]


class Threads:
    """Runs jobs, each at once, in threads that are kept for a while."""

    def __init__(self, most: int = MOST_THREADS) -> None:
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._most = most
        self._free = 0
        self._queued = 0
        self.count = 0

    def run(self, job: Job) -> None:
        """Has a job run by a thread: one that is free, else a new one, else the first to be free."""
        with self._lock:
            starts = self._free == 0 and self.count < self._most
            if self._free:
                self._free -= 1
            elif starts:
                self.count += 1
            else:
                self._queued += 1
        if starts and not self._start():
            with self._lock:
                self._queued += 1
        self._jobs.put(job)

    def has_room(self) -> bool:
        """True when a job given now would run at once."""
        return self._free > 0 or self.count < self._most

    def _start(self) -> bool:
        try:
            threading.Thread(target=self._work, name="hothouse-worker", daemon=True).start()
        except RuntimeError as error:
            # The system has no more threads for us: the job waits for one of those there are.
            print(f"hothouse: no further thread could be started: {error}", file=sys.stderr)
            with self._lock:
                self.count -= 1
                self._most = self.count
            return False
        return True

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=IDLE_S)
            except queue.Empty:
                with self._lock:
                    # A job may have been promised to this thread just now.
                    if self._free > 0:
                        self._free -= 1
                        self.count -= 1
                        return
                continue
            job()
            with self._lock:
                if self._queued:
                    self._queued -= 1
                else:
                    self._free += 1


TICK_S = 0.004
TICKS_UNTIL_ASLEEP = 50


class Watch:
    """Notices when the request at hand takes so long that others should not wait for it.

    Whoever leads puts a request into a list while it runs, and takes it out again. One that is still there a tick
    later is taken away, which passes the lead on: taking something out of a list happens once, whoever tries.
    """

    def __init__(self, pass_on: Callable[[Any, bool], None], may_pass: Callable[[], bool]) -> None:
        self._at_hand: list[Any] = []
        self._leader = threading.get_ident()
        self._pass_on = pass_on
        self._may_pass = may_pass
        self._wake = threading.Event()
        self.asleep = False
        self.active = True
        """Set by whoever leads when something has come."""
        self._thread = threading.Thread(target=self._watch, name="hothouse-watch", daemon=True)

    def start(self) -> None:
        """Begins to watch."""
        self._thread.start()

    def follow(self, at_hand: list[Any]) -> None:
        """Watches the calling thread from now on, which leads."""
        self._leader = threading.get_ident()
        self._at_hand = at_hand

    def wake(self) -> None:
        """Ends its sleep. It sleeps when nothing has come for a while."""
        self._wake.set()

    def _watch(self) -> None:
        quiet = 0
        while True:
            seen = self._seen()
            spent = _cpu_s(self._leader) if seen is not None else 0.0
            time.sleep(TICK_S)
            if seen is not None and self._seen() is seen:
                self._take(seen, _cpu_s(self._leader) - spent > TICK_S / 2)
                continue
            quiet = 0 if self.active or seen is not None else quiet + 1
            self.active = False
            if quiet >= TICKS_UNTIL_ASLEEP:
                quiet = 0
                self._sleep()

    def _seen(self) -> Any:
        try:
            return self._at_hand[-1]
        except IndexError:
            return None

    def _sleep(self) -> None:
        self._wake.clear()
        self.asleep = True
        # Something may have come before it was seen that nobody watches.
        if not self.active and not self._at_hand:
            self._wake.wait()
        self.asleep = False

    def _take(self, seen: Any, computes: bool) -> None:
        if not self._may_pass():
            return
        try:
            taken = self._at_hand.pop()
        except IndexError:
            # It has just come to its end.
            return
        # In the least likely case that is already the next one; then the lead is passed on a little early.
        self._pass_on(taken, computes)


def _cpu_s(thread: int) -> float:
    """How long a thread has computed."""
    try:
        return time.clock_gettime(time.pthread_getcpuclockid(thread))
    except (OSError, OverflowError):
        # It has ended, or the system does not tell: then what takes long is taken to wait.
        return 0.0
