"""An app for `test_asgi.py`."""

from __future__ import annotations

from typing import Any, Optional

from hothouse.env import Action, Environment, Observation, State, create_app


class Command(Action):
    cmd: str = "ok"
    n: int = 0


class Value(Observation):
    val: float = 0.0


class Last(State):
    last: str = ""


class Commanded(Environment[Command, Value, Last]):
    def __init__(self) -> None:
        super().__init__()
        self._state = Last(episode_id="E")

    def reset(self, seed: Optional[int] = None, episode_id: Optional[str] = None, **kwargs: Any) -> Value:
        self._state = Last(episode_id="E")
        return Value(val=float(seed or 0), metadata={"kw": kwargs} if kwargs else {})

    def step(self, action: Command, timeout_s: Optional[float] = None, **kwargs: Any) -> Value:
        self._state.step_count += 1
        self._state.last = action.cmd
        if action.cmd == "boom":
            raise ValueError("step boom")
        if action.cmd == "nan":
            return Value(val=float("nan"), reward=float("inf"))
        if action.cmd == "bool":
            return Value(reward=True, done=True)
        if action.cmd == "int":
            return Value(reward=1)
        return Value(val=1.5, reward=0.5)

    @property
    def state(self) -> Last:
        return self._state


app = create_app(Commanded, Command, Value, max_concurrent_envs=3)
