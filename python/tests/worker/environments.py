"""Environments that the tests of the worker serve."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import sys
import threading
from typing import Any, Callable, Optional

import numpy as np

from hothouse.env import Action, Environment, MCPEnvironment, Observation, State, create_app, create_fastapi_app, tool


class Say(Action):
    message: str = ""
    times: int = 1


class Heard(Observation):
    message: str = ""
    extra: Any = None


class Echo(Environment[Say, Heard, State]):
    """Says what it hears."""

    def __init__(self) -> None:
        super().__init__()
        self._state = State()

    def reset(self, seed: Optional[int] = None, episode_id: Optional[str] = None) -> Heard:  # type: ignore[override]
        self._state = State(episode_id=episode_id)
        return Heard(message="ready", extra=seed, reward=0.0)

    def step(self, action: Say) -> Heard:  # type: ignore[override]
        self._state.step_count += 1
        return Heard(message=action.message * action.times, reward=len(action.message) * 0.1)

    @property
    def state(self) -> State:
        return self._state


class Meeting(Environment[Say, Heard, dict[str, Any]]):
    """Whoever waits for a word goes on when another session says it."""

    words: dict[str, threading.Event] = {}  # noqa: RUF012
    lock = threading.Lock()

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def _word(self, word: str) -> threading.Event:
        with self.lock:
            return self.words.setdefault(word, threading.Event())

    def reset(self) -> Heard:  # type: ignore[override]
        return Heard()

    def step(self, action: Say) -> Heard:  # type: ignore[override]
        kind, _, word = action.message.partition(" ")
        if kind == "wait":
            assert self._word(word).wait(40), f"nobody said {word}"
        elif kind == "say":
            self._word(word).set()
        self.steps += 1
        return Heard(message=action.message, extra={"steps": self.steps, "threads": threading.active_count()})

    def state(self) -> dict[str, Any]:  # type: ignore[override]
        return {"steps": self.steps, "threads": threading.active_count()}


class LaterMeeting(Meeting):
    """The same, awaited."""

    events: dict[str, asyncio.Event] = {}  # noqa: RUF012

    async def reset_async(self, seed: Optional[int] = None, **kwargs: Any) -> Heard:  # type: ignore[override]
        await asyncio.sleep(0)
        return Heard(message=threading.current_thread().name, extra=seed)

    async def step_async(self, action: Say) -> Heard:  # type: ignore[override]
        kind, _, word = action.message.partition(" ")
        event = self.events.setdefault(word, asyncio.Event())
        if kind == "wait":
            await asyncio.wait_for(event.wait(), 40)
        elif kind == "say":
            event.set()
        elif kind == "raise":
            raise ValueError(word)
        self.steps += 1
        return Heard(message=threading.current_thread().name, extra=self.steps)


class Trouble(Environment[Say, Heard, State]):
    """Does what authors' code does on bad days."""

    def reset(self, **kwargs: Any) -> Any:  # type: ignore[override]
        return Heard(extra=kwargs)

    def step(self, action: Say) -> Any:  # type: ignore[override]
        match = getattr(self, f"_{action.message}")
        return match()

    def _raise(self) -> Any:
        raise ValueError("step boom")

    def _exit(self) -> Any:
        sys.exit(7)

    def _none(self) -> Any:
        return None

    def _unsayable(self) -> Any:
        return Heard(extra={"inner": [object()]})

    def _print(self) -> Any:
        print("said to stdout")
        os.write(1, b"written to descriptor 1\n")
        print("asked:", repr(sys.stdin.read()))
        return Heard()

    def _numpy(self) -> Any:
        return {"array": np.arange(3), "number": np.float32(1.5), "nan": float("nan"), "reward": np.float64(2.5)}

    def _surrogate(self) -> Any:
        return Heard(message="a\ud800")

    def _die(self) -> Any:
        os._exit(3)

    @property
    def state(self) -> Any:
        raise RuntimeError("no state today")

    def close(self) -> None:
        raise RuntimeError("it will not close")


class Random(Echo):
    """Draws from the random numbers of the whole process."""

    drawn_at_import = random.random()

    def step(self, action: Say) -> Heard:  # type: ignore[override]
        return Heard(extra=[random.random(), float(np.random.random()), os.getpid(), self.drawn_at_import])


class Guarded(Echo):
    """Says its end to a file."""

    def close(self) -> None:
        with open(os.environ["CLOSED"], "a", encoding="utf-8") as file:  # noqa: PTH123
            file.write(f"{self._state.step_count}\n")


class OneThread(Echo):
    """What it holds may be used by the thread that made it alone."""

    REQUIRES_SINGLE_THREAD_EXECUTOR = True

    def __init__(self) -> None:
        super().__init__()
        self._table = sqlite3.connect(":memory:")

    def step(self, action: Say) -> Heard:  # type: ignore[override]
        threading.Event().wait(0.02)
        return Heard(extra=self._table.execute("select 6 * 7").fetchone()[0])


class OwnThread(OneThread):
    """The same, but another one has another thread."""

    REQUIRES_SINGLE_THREAD_EXECUTOR = False
    REQUIRES_OWN_THREAD = True

    def step(self, action: Say) -> Heard:  # type: ignore[override]
        with Meeting.lock:
            event = Meeting.words.setdefault(action.message, threading.Event())
        if action.times == 0:
            event.set()
        elif action.message:
            assert event.wait(40)
        return Heard(extra=[self._table.execute("select 6 * 7").fetchone()[0], threading.active_count()])

    def close(self) -> None:
        # Fails in any other thread.
        self._table.close()
        Guarded.close(self)  # type: ignore[arg-type]


class Lambda(Echo):
    """Cannot be pickled without more."""

    def __init__(self) -> None:
        super().__init__()
        self.says: Callable[[str], str] = lambda text: f"<{text}>"

    def step(self, action: Say) -> Heard:  # type: ignore[override]
        return Heard(message=self.says(action.message))


class Locked(Echo):
    """Cannot be pickled at all."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class Kept(Locked):
    """Says itself how it is kept."""

    def checkpoint(self) -> Any:
        return {"step_count": self._state.step_count}

    def restore(self, kept: Any) -> None:
        self._state = State(step_count=kept["step_count"])


class Tasked(Echo):
    """Has tasks."""

    def list_splits(self) -> list[Any]:
        return [{"name": "train", "type": "train"}]

    def get_task(self, split: str, index: int) -> dict[str, Any]:
        return {"split": split, "value": [1, 2, 3][index]}


class Tools(MCPEnvironment):
    """Adds."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def reset(self) -> Heard:  # type: ignore[override]
        return Heard()

    @property
    def state(self) -> State:
        return State(step_count=self.total)

    @tool
    def add(self, number: int) -> int:
        """Adds to the total."""
        self.total += number
        return self.total


class Counted(Echo):
    SUPPORTS_CONCURRENT_SESSIONS = False


def made_by_a_function() -> Echo:
    return Echo()


app = create_app(Echo, Say, Heard, env_name="echo_env", max_concurrent_envs=8)
shared = create_fastapi_app(Echo(), Say, Heard)
hidden = create_app(lambda: Echo(), Say, Heard)
