"""What becomes of each request: its session, and the bytes of its answer. Who runs it is decided elsewhere."""

from __future__ import annotations

from collections import deque
from queue import SimpleQueue
from typing import Any, Callable, Optional

from ..env.app import App
from ..env.checkpoints import NotSupported
from ..env.codec import Invalid, loaded, object_of
from ..env.session import EnvSession, restored
from .failures import failure
from .frames import FROM_WORKER, Asked, Request, Said

STEP, RESET, STEP_WITH = int(Asked.STEP), int(Asked.RESET), int(Asked.STEP_WITH)
OPENING = frozenset({int(Asked.OPEN), int(Asked.RESTORE)})
DONE, INVALID, FAILED = int(Said.DONE), int(Said.INVALID), int(Said.FAILED)
NAMES = {int(asked): asked.name for asked in Asked}


class SessionUnknown(LookupError):
    """There is no session of this number on the connection."""


class Seat:
    """The place of one session on a connection: the session, and whose turn it is."""

    __slots__ = ("busy", "calm", "lane", "session", "slow", "waiting")

    def __init__(self) -> None:
        self.session: Optional[EnvSession] = None
        self.busy = False
        """One of its requests is being answered. Only the thread that leads sets it."""
        self.waiting: deque[Request] = deque()
        """Those that came meanwhile."""
        self.slow = 0
        """How many more of its requests are to have a thread of their own, since it was found to wait for something."""
        self.calm = 0
        """How many of its requests were answered at once, in a row."""
        self.lane: Optional[SimpleQueue[Optional[Request]]] = None
        """To the session's own thread, where its environment needs that."""

    @property
    def is_left(self) -> bool:
        """True when nobody sits here any more."""
        return self.session is None and self.lane is None and not self.busy


def answer(request: int, kind: int, body: bytes) -> bytes:
    """An answer, ready to be sent."""
    return FROM_WORKER.pack(len(body), request, kind) + body


class Answers:
    """Answers requests with the sessions of one connection."""

    def __init__(self, app: App) -> None:
        self.app = app
        self._handlers: dict[int, Callable[[Seat, int, bytes], bytes]] = {
            int(Asked.OPEN): self._open,
            RESET: lambda seat, number, said: self._session(seat, number).reset(said),
            STEP: lambda seat, number, said: self._session(seat, number).step(said),
            STEP_WITH: lambda seat, number, said: self._session(seat, number).step_with(said),
            int(Asked.STATE): lambda seat, number, said: self._session(seat, number).state(said),
            int(Asked.CLOSE): self._close,
            int(Asked.MCP): lambda seat, number, said: self._lent(seat, "mcp", said),
            int(Asked.TASKS): lambda seat, number, said: self._lent(seat, "tasks", said),
            int(Asked.CHECKPOINT): lambda seat, number, said: self._session(seat, number).checkpoint(said),
            int(Asked.RESTORE): self._restore,
        }

    def answered(self, seat: Seat, request: Request) -> bytes:
        """The answer to a request, whatever comes of it."""
        kind, ident, number, said = request
        try:
            if kind == STEP and seat.session is not None:
                body = seat.session.step(said)
            else:
                body = self._handler(kind)(seat, number, said)
        except Invalid as error:
            return answer(ident, INVALID, error.text)
        except BaseException as error:  # noqa: BLE001
            # Even SystemExit: the session of whoever raised it lives on, and so do the others.
            return answer(ident, FAILED, failure(error))
        return FROM_WORKER.pack(len(body), ident, DONE) + body

    @staticmethod
    def is_awaited(seat: Seat, kind: int) -> bool:
        """True for a request that the author answers with a coroutine."""
        session = seat.session
        if session is None:
            return False
        return session.async_reset if kind == RESET else session.async_step and kind in (STEP, STEP_WITH)

    async def answered_later(self, seat: Seat, request: Request) -> bytes:
        """The answer to one of those."""
        kind, ident, _, said = request
        session = seat.session
        try:
            assert session is not None
            if kind == RESET:
                body = await session.reset_later(said)
            elif kind == STEP:
                body = await session.step_later(said)
            else:
                body = await session.step_with_later(said)
        except Invalid as error:
            return answer(ident, INVALID, error.text)
        except BaseException as error:  # noqa: BLE001
            # As above; a cancelled task included.
            return answer(ident, FAILED, failure(error))
        return answer(ident, DONE, body)

    def _handler(self, kind: int) -> Callable[[Seat, int, bytes], bytes]:
        handler = self._handlers.get(kind)
        if handler is None:
            raise NotSupported(f"this worker knows no request of kind {kind}")
        return handler

    def _session(self, seat: Seat, number: int) -> EnvSession:
        if seat.session is None:
            raise SessionUnknown(f"session {number} is not open")
        return seat.session

    def _open(self, seat: Seat, number: int, said: bytes) -> bytes:
        if seat.session is not None:
            raise ValueError(f"session {number} is open already")
        session = self.app.session()
        if said and said != b"{}":
            session.agree(object_of(loaded(said)))
        seat.session = session
        return b""

    def _close(self, seat: Seat, number: int, said: bytes) -> bytes:
        session = self._session(seat, number)
        # Whatever its end comes to, it is over.
        seat.session = None
        session.close()
        return b""

    def _restore(self, seat: Seat, number: int, said: bytes) -> bytes:
        seat.session = restored(self.app, said) if seat.session is None else seat.session.restored(said)
        return b""

    def _lent(self, seat: Seat, method: str, said: bytes) -> bytes:
        """What needs no episode is also answered without a session, by an instance for this once."""
        if seat.session is not None:
            given: Any = getattr(seat.session, method)(said)
        else:
            session = self.app.session()
            try:
                given = getattr(session, method)(said)
            finally:
                session.close()
        body: bytes = given
        return body
