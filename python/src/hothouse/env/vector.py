"""Many sessions of an environment, stepped together: one message out and one back for all of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Optional, Union

from .connection import MAX_MESSAGE_MB, V1, Connection, Settings, written
from .errors import EnvConnectionLost, EnvError, error_of
from .hooks import payload_of
from .providers import Running, Served
from .results import StepResult, generic_result

Result = StepResult[dict[str, Any]]
Item = Union[Result, EnvError]
"""What came of one session; an error is of that session alone."""


class Together:
    """The sessions of one connection that speaks `hothouse.env.v1`."""

    def __init__(self, settings: Settings, connection: Connection, count: int) -> None:
        self._connection = connection
        self._numbers: list[int] = connection.ask(settings.opening(count))["sessions"]

    def _batch(self, kind: str, sessions: Sequence[int], data: list[Any]) -> list[Item]:
        numbers = [self._numbers[session] for session in sessions]
        items = self._connection.ask(written({"type": kind, "sessions": numbers, "data": data}))
        if not isinstance(items, list) or len(items) != len(numbers):
            raise EnvConnectionLost(f"{kind}: the answer is not of {len(numbers)} sessions", "BAD_ANSWER")
        return [error_of(item["error"]) if "error" in item else generic_result(item) for item in items]

    def reset(self, sessions: Sequence[int], arguments: list[dict[str, Any]]) -> list[Item]:
        """Begins an episode in each of these."""
        return self._batch("reset_batch", sessions, arguments)

    def step(self, sessions: Sequence[int], actions: list[Optional[dict[str, Any]]]) -> list[Item]:
        """Acts in each of these; None resets."""
        return self._batch("step_batch", sessions, actions)

    def state(self, session: int) -> dict[str, Any]:
        """What a session says of its episode."""
        state: dict[str, Any] = self._connection.ask(written({"type": "state", "session": self._numbers[session]}))
        return state

    def ask(self, kind: str, session: int, **more: Any) -> Any:
        """What only such a connection can do."""
        return self._connection.ask(written({"type": kind, "session": self._numbers[session], **more}))

    def fork(self, session: int, count: int) -> range:
        """Copies of a session, which come after those there are."""
        first = len(self._numbers)
        self._numbers += self.ask("fork", session, count=count)["sessions"]
        return range(first, len(self._numbers))

    def close(self) -> None:
        """Ends them all."""
        self._connection.close()


class Apart:
    """Sessions with a connection each, of a server that knows nothing else. All are asked before any is waited for."""

    def __init__(self, settings: Settings, first: Connection, count: int) -> None:
        self._settings = settings
        self._connections = [first]
        try:
            while len(self._connections) < count:
                self._connections.append(Connection(settings))
        except BaseException:
            self.close()
            raise

    def _all(self, sessions: Sequence[int], messages: list[dict[str, Any]]) -> list[Item]:
        texts = [written(message) for message in messages]
        for session, text in zip(sessions, texts):
            self._connections[session].send(text)
        deadline = time.monotonic() + self._settings.message_timeout_s
        items: list[Item] = []
        for session in sessions:
            try:
                left = max(deadline - time.monotonic(), 0.001)
                items.append(generic_result(self._connections[session].receive(left)))
            except EnvError as error:
                items.append(error)
        return items

    def reset(self, sessions: Sequence[int], arguments: list[dict[str, Any]]) -> list[Item]:
        """Begins an episode in each of these."""
        return self._all(sessions, [{"type": "reset", "data": each} for each in arguments])

    def step(self, sessions: Sequence[int], actions: list[Optional[dict[str, Any]]]) -> list[Item]:
        """Acts in each of these; None resets."""
        steps = [
            {"type": "reset", "data": {}} if action is None else {"type": "step", "data": action} for action in actions
        ]
        return self._all(sessions, steps)

    def state(self, session: int) -> dict[str, Any]:
        """What a session says of its episode."""
        state: dict[str, Any] = self._connections[session].ask(written({"type": "state"}))
        return state

    def close(self) -> None:
        """Ends them all."""
        for connection in self._connections:
            connection.close()


class VectorClient:
    """`count` sessions of an environment. What went wrong in one is its item of the answer, an `EnvError`.

    One connection is for all where the server speaks `hothouse.env.v1`, else each session has its own.
    """

    def __init__(
        self,
        base_url: str,
        count: int,
        connect_timeout_s: float = 10.0,
        message_timeout_s: float = 60.0,
        max_message_size_mb: float = MAX_MESSAGE_MB,
        headers: Optional[dict[str, str]] = None,
        packed_arrays: bool = False,
    ) -> None:
        if count < 1:
            raise ValueError(f"count is {count}; there has to be a session at least")
        self.count = count
        settings = Settings(
            base_url, connect_timeout_s, message_timeout_s, max_message_size_mb, headers or {}, packed_arrays
        )
        self.base_url = base_url
        self._running: Optional[Running] = None
        connection = Connection(settings, V1)
        try:
            self._sessions: Union[Together, Apart] = (
                Together(settings, connection, count)
                if connection.subprotocol == V1
                else Apart(settings, connection, count)
            )
        except BaseException:
            connection.close()
            raise

    @classmethod
    def from_env(cls, name: str, count: int, *arguments: str, **settings: Any) -> VectorClient:
        """Serves an environment privately, for `count` sessions. The server ends with the client and this process."""
        running = Served(name, *arguments)
        try:
            client = cls(running.url, count, **settings)
        except BaseException:
            running.end()
            raise
        client._running = running
        return client

    @property
    def multiplexed(self) -> bool:
        """True when one connection is for all."""
        return isinstance(self._sessions, Together)

    def reset_batch(
        self,
        seed: Union[int, Sequence[Optional[int]], None] = None,
        sessions: Optional[Sequence[int]] = None,
        **arguments: Any,
    ) -> list[Item]:
        """Begins an episode in each of `sessions`, which are all when left out.

        A seed that is a number is the first session's, and is counted up for the others.
        """
        chosen = self._chosen(sessions)
        seeds: Sequence[Optional[int]]
        if seed is None:
            seeds = [None] * len(chosen)
        elif isinstance(seed, int):
            seeds = [seed + index for index in range(len(chosen))]
        else:
            seeds = self._as_many(seed, chosen, "seeds")
        given = [arguments if each is None else {"seed": each, **arguments} for each in seeds]
        return self._sessions.reset(chosen, given)

    def step_batch(self, actions: Sequence[Any], sessions: Optional[Sequence[int]] = None) -> list[Item]:
        """Acts in each of `sessions`, which are all when left out. None in place of an action begins an episode."""
        chosen = self._chosen(sessions)
        self._as_many(actions, chosen, "actions")
        return self._sessions.step(chosen, [None if action is None else payload_of(action) for action in actions])

    def state(self, session: int) -> dict[str, Any]:
        """What a session says of its episode."""
        return self._sessions.state(session)

    def step(self, session: int, action: Any, step_id: Optional[str] = None) -> Result:
        """Acts in one session. A step whose `step_id` it knows already, since its answer was lost on the way, is not
        taken once more: the answer of then comes again. It knows the last 64 of an episode.
        """
        more = {} if step_id is None else {"step_id": step_id}
        return generic_result(self._together("step").ask("step", session, data=payload_of(action), **more))

    def fork(self, session: int, count: int = 1) -> list[int]:
        """Copies a session, which stands where it stands and goes its own way from there. Gives the copies' numbers."""
        together = self._together("fork")
        copies = list(together.fork(session, count))
        self.count += len(copies)
        return copies

    def checkpoint(self, session: int) -> str:
        """Keeps where a session stands, for as long as this client is open. Gives the id for `restore`."""
        kept: str = self._together("checkpoint").ask("checkpoint", session)["checkpoint_id"]
        return kept

    def restore(self, session: int, checkpoint_id: str) -> None:
        """Puts a session back to where another one, or it itself, stood."""
        self._together("restore").ask("restore", session, data={"checkpoint_id": checkpoint_id})

    def _together(self, what: str) -> Together:
        if isinstance(self._sessions, Together):
            return self._sessions
        text = f"the server of {self.base_url} does not speak {V1}, which {what} needs; it is one of Hothouse's own"
        raise EnvError(text, "NOT_SUPPORTED")

    def _chosen(self, sessions: Optional[Sequence[int]]) -> Sequence[int]:
        return range(self.count) if sessions is None else sessions

    @staticmethod
    def _as_many(items: Sequence[Any], chosen: Sequence[int], what: str) -> Sequence[Any]:
        if len(items) != len(chosen):
            raise ValueError(f"there are {len(items)} {what} for {len(chosen)} sessions")
        return items

    def close(self) -> None:
        """Ends the sessions, and the server where this client started it."""
        self._sessions.close()
        running, self._running = self._running, None
        if running is not None:
            running.end()

    def __enter__(self) -> VectorClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
