"""An environment that raises, and whose rewards are of every type: of which `ws_0.10_errors` was recorded."""

from __future__ import annotations

import math
from typing import Any

from openenv.core.env_server.http_server import create_app
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State


class TroubleAction(Action):
    cmd: str
    n: int = 0


class TroubleObservation(Observation):
    val: float = 0.0


class TroubleState(State):
    last: str = ""


class Trouble(Environment):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def reset(self, seed: Any = None, **more: Any) -> TroubleObservation:
        return TroubleObservation(val=float(seed or 0), metadata={"kw": more})

    def step(self, action: TroubleAction, timeout_s: float | None = None, **more: Any) -> TroubleObservation:
        if action.cmd == "boom":
            raise RuntimeError("step boom")
        return {
            "ok": TroubleObservation(val=1.5, reward=0.5),
            "nan": TroubleObservation(val=math.nan, reward=math.inf),
            "bool": TroubleObservation(reward=True, done=True),
            "int": TroubleObservation(reward=1),
            "meta": TroubleObservation(metadata={"timeout_s": timeout_s, "kw": more}),
        }[action.cmd]

    @property
    def state(self) -> TroubleState:
        return TroubleState(episode_id="E", step_count=0, last="")


app = create_app(Trouble, TroubleAction, TroubleObservation, env_name="trouble", max_concurrent_envs=16)
