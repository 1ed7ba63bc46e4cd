"""One connection: requests are read and answered by one thread, as long as none of them makes others wait.

That thread *leads*: it reads what has come, answers one request after the other, and sends the answers together. When
a request waits for something, the watch takes the lead away from the thread that is in it: another one goes on with
the rest, and the first one sends its answer when it has it. Requests that will wait, by what was seen of their
session, get a thread of their own at once. Coroutines run on one event loop.
"""

from __future__ import annotations

import enum
import functools
import socket
import sys
import threading
import time
import traceback
from collections import deque
from queue import SimpleQueue
from typing import Callable, NoReturn, Optional

from ..env.app import App
from .answers import OPENING, Answers, Seat
from .frames import Reader, Request, StreamBroken
from .later import Later
from .threads import Threads, Watch

FLUSH_S = 0.0005
"""An answer waits no longer than this for further ones to be sent with it, unless the next one takes longer."""
WAITED_S = 0.003
"""A request that took so long without computing has waited for something."""
SLOW_FOR = 32
"""So many of a session's requests get threads of their own after one that waited."""
CALM = 3
"""So many requests of a session that were answered at once say that it does not wait, while others do."""
ALERT_S = 1.0
STORM_S = 0.1
STORM_PASSES = 4
GRACE_S = 2.0
"""How long the end of a connection waits for what still runs."""
SWEPT_AT = 1024


class Calling(enum.Enum):
    """Which threads may call an instance."""

    ANY_THREAD = "any"
    ONE_THREAD = "one for all instances"
    OWN_THREAD = "one for each instance"


def calling_of(cls: Optional[type]) -> Calling:
    """What a class says of that."""
    if getattr(cls, "REQUIRES_SINGLE_THREAD_EXECUTOR", False):
        return Calling.ONE_THREAD
    return Calling.OWN_THREAD if getattr(cls, "REQUIRES_OWN_THREAD", False) else Calling.ANY_THREAD


class Connection:
    """Serves the sessions of one connection until it is closed."""

    def __init__(self, sock: socket.socket, app: App, leave: Callable[[], None]) -> None:
        """`leave` ends the process, by whichever thread notices the end: another may be in a step that never does."""
        self._sock = sock
        self._leave = leave
        self._app = app
        self._reader = Reader(sock)
        self._answers = Answers(app)
        self._seats: dict[int, Seat] = {}
        self._pending: deque[Request] = deque()
        self._out: list[bytes] = []
        self._write = threading.Lock()
        self._lock = threading.Lock()
        """Of `busy` and `waiting` of the seats, wherever another thread than the leading one may change them."""
        self._threads = Threads()
        self._later = Later(self._answers, self._next_for_loop, self.flush)
        self._kind = calling_of(app.known_cls())
        self._watch = Watch(self._pass_on, self._threads.has_room) if self._kind is Calling.ANY_THREAD else None
        self._alert_until = 0.0
        self._storm = False
        self._passes: deque[float] = deque(maxlen=STORM_PASSES)
        self._sent_at = 0.0
        self._over = False
        self._left = threading.Semaphore(0)

    def serve(self) -> NoReturn:
        """Serves until the other side closes the connection, and leaves."""
        if self._watch is not None:
            self._watch.start()
        self._led()
        # Others lead by now; whoever comes to the end ends all.
        while True:
            threading.Event().wait()

    def _led(self) -> None:
        try:
            self._lead()
        except BaseException:  # noqa: BLE001
            # No author's error comes this far. Without a thread that leads nothing would ever be answered.
            traceback.print_exc()
            self._leave()

    def _lead(self) -> None:
        """Reads and answers, until the connection ends or the lead is passed on."""
        watch, pending = self._watch, self._pending
        # Of this lead alone, so that whoever loses it does not take something out for the next one.
        at_hand: list[Request] = []
        if watch is not None:
            watch.follow(at_hand)
        while True:
            if pending:
                if not self._taken(pending.popleft(), at_hand):
                    return
                continue
            self._later.hand_over()
            self.flush()
            try:
                requests = self._reader.read()
            except (StreamBroken, ConnectionError) as error:
                print(f"hothouse: the connection broke: {error}", file=sys.stderr)
                requests = []
            if not requests:
                self._end()
                return
            if watch is not None:
                watch.active = True
                if watch.asleep:
                    watch.wake()
            self._sent_at = time.perf_counter()
            pending.extend(requests)

    def _taken(self, request: Request, at_hand: list[Request]) -> bool:
        """Sees to one request. False when the lead was lost over it."""
        seat = self._seats.get(request[2])
        if seat is None:
            seat = Seat()
            if request[0] in OPENING:
                self._sweep()
                self._seats[request[2]] = seat
        if self._kind is Calling.OWN_THREAD and request[2] in self._seats:
            self._give(seat, request)
            return True
        if seat.busy:
            with self._lock:
                if seat.busy:
                    seat.waiting.append(request)
                    return True
        seat.busy = True
        if self._answers.is_awaited(seat, request[0]):
            self._later.take(seat, request)
            return True
        if (seat.slow or self._alert_until) and self._wants_thread(seat):
            self._threads.run(functools.partial(self._answer_apart, seat, request))
            return True
        at_hand.append(request)
        self._out.append(self._answers.answered(seat, request))
        try:
            at_hand.pop()
        except IndexError:
            # The watch has taken it: another thread leads by now, and this one is done when its session is.
            self.flush()
            self._go_on(seat)
            return False
        seat.busy = False
        seat.calm += 1
        now = time.perf_counter()
        if now - self._sent_at > FLUSH_S:
            self._later.hand_over()
            self.flush()
            self._sent_at = now
        return True

    def _wants_thread(self, seat: Seat) -> bool:
        if self._watch is None:
            return False
        if seat.slow:
            return True
        if time.monotonic() >= self._alert_until:
            self._alert_until, self._storm = 0.0, False
            return False
        return self._storm or seat.calm < CALM

    def _pass_on(self, request: Request, computes: bool) -> None:
        """Lets another thread lead, since this request takes long."""
        seat = self._seats.get(request[2])
        if seat is not None and not computes:
            seat.slow, seat.calm = SLOW_FOR, 0
            now = time.monotonic()
            self._passes.append(now)
            self._storm = len(self._passes) == STORM_PASSES and now - self._passes[0] < STORM_S
            self._alert_until = now + ALERT_S
        self._threads.run(self._led)

    def _give(self, seat: Seat, request: Optional[Request]) -> None:
        """Gives a request to the session's own thread, which is there as long as the session is; None closes it."""
        with self._lock:
            if seat.lane is None:
                seat.lane = SimpleQueue()
                lane = functools.partial(self._run_lane, seat, seat.lane)
                threading.Thread(target=lane, name="hothouse-session", daemon=True).start()
            seat.lane.put(request)

    def _run_lane(self, seat: Seat, lane: SimpleQueue[Optional[Request]]) -> None:
        while True:
            request = lane.get()
            if request is None:
                _closed(seat)
                self._left.release()
                return
            self._out.append(self._answers.answered(seat, request))
            self.flush()
            if seat.session is None:
                with self._lock:
                    # Nothing has come meanwhile, such as that it is to be opened again.
                    if lane.empty():
                        seat.lane = None
                        return

    def _answer_apart(self, seat: Seat, request: Request) -> None:
        """Answers a request that may wait for something, in a thread of its own, and what has come for its session."""
        begin, computed = time.monotonic(), time.thread_time()
        self._out.append(self._answers.answered(seat, request))
        self.flush()
        took = time.monotonic() - begin
        if took > WAITED_S and time.thread_time() - computed < took / 2:
            seat.slow, seat.calm = SLOW_FOR, 0
        else:
            seat.slow, seat.calm = max(seat.slow - 1, 0), seat.calm + 1
        self._go_on(seat)

    def _go_on(self, seat: Seat) -> None:
        """Answers what has come for a session meanwhile, and then frees it."""
        while True:
            request = self._next_of(seat)
            if request is None:
                return
            if self._answers.is_awaited(seat, request[0]):
                self._later.take(seat, request)
                self._later.hand_over()
                return
            self._out.append(self._answers.answered(seat, request))
            self.flush()

    def _next_of(self, seat: Seat) -> Optional[Request]:
        """The next request of a busy session; None frees it."""
        with self._lock:
            if seat.waiting:
                return seat.waiting.popleft()
            seat.busy = False
            over = self._over
        if over:
            _closed(seat)
            self._left.release()
        return None

    def _next_for_loop(self, seat: Seat, reply: bytes) -> Optional[Request]:
        """Takes an answer from the event loop, and gives it the session's next request, if that is one for the loop."""
        self._out.append(reply)
        request = self._next_of(seat)
        if request is None or self._answers.is_awaited(seat, request[0]):
            return request
        self._threads.run(functools.partial(self._answer_apart, seat, request))
        return None

    def flush(self) -> None:
        """Sends the answers that there are."""
        if not self._out:
            return
        with self._write:
            count = len(self._out)
            data = self._out[0] if count == 1 else b"".join(self._out[:count])
            # Others may have put more behind them meanwhile; a thread before may have sent all.
            del self._out[:count]
            if data:
                try:
                    self._sock.sendall(data)
                except OSError as error:
                    # Nobody is left who wants it; the reader sees the end of the stream.
                    print(f"hothouse: {len(data)} bytes of answers could not be sent: {error}", file=sys.stderr)

    def _sweep(self) -> None:
        """Forgets sessions that were closed, now and then. Only the thread that leads may."""
        if len(self._seats) % SWEPT_AT == SWEPT_AT - 1:
            for number in [number for number, seat in self._seats.items() if seat.is_left]:
                del self._seats[number]

    def _end(self) -> None:
        """Closes all sessions; those with a request at hand when it is answered, if that is soon."""
        # An end that does not come by itself, as when an author's close() never returns.
        end = threading.Timer(GRACE_S, self._leave)
        end.daemon = True
        end.start()
        with self._lock:
            self._over = True
            lanes = [seat for seat in self._seats.values() if seat.lane is not None]
            busy = [seat for seat in self._seats.values() if seat.busy]
            idle = [seat for seat in self._seats.values() if not seat.busy and seat.lane is None]
        for seat in lanes:
            self._give(seat, None)
        for seat in idle:
            _closed(seat)
        for _ in (*lanes, *busy):
            self._left.acquire()
        self._close_shared()
        self._leave()

    def _close_shared(self) -> None:
        shared = self._app.shared
        close = getattr(shared, "close", None)
        if close is not None:
            try:
                close()
            except Exception:  # noqa: BLE001
                # It ends anyway; its author may want to know.
                traceback.print_exc()


def _closed(seat: Seat) -> None:
    session, seat.session = seat.session, None
    if session is not None:
        try:
            session.close()
        except Exception:  # noqa: BLE001
            # The session ends anyway; its author may want to know.
            traceback.print_exc()
