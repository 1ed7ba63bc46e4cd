"""A game of the Arcade Learning Environment, whose ROMs are in its package: 100,800 numbers in each observation.

`ATARI_GAME` names the game. Beside its requirements it needs ale-py.
"""

from __future__ import annotations

import os
from typing import Any
from uuid import uuid4

from ale_py import ALEInterface, LoggerMode, roms
from models import AtariAction, AtariObservation, AtariState
from openenv.core.env_server.http_server import create_app
from openenv.core.env_server.interfaces import Environment

GAME = os.environ.get("ATARI_GAME", "pong")
FRAMES_PER_STEP = 4


class Atari(Environment):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self._ale = ALEInterface()
        self._ale.setLoggerMode(LoggerMode.Error)
        self._ale.setFloat("repeat_action_probability", 0.0)
        self._begin(seed=0)

    def _begin(self, seed: int) -> None:
        self._ale.setInt("random_seed", seed)
        self._ale.loadROM(roms.get_rom_path(GAME))
        self._actions = self._ale.getMinimalActionSet()
        self._state = AtariState(episode_id=str(uuid4()), step_count=0, game_name=GAME)

    def reset(self, seed: int | None = None, episode_id: str | None = None, **_: Any) -> AtariObservation:
        self._begin(seed or 0)
        self._state.episode_id = episode_id or self._state.episode_id
        return self._seen(0.0)

    def step(self, action: AtariAction, timeout_s: float | None = None, **_: Any) -> AtariObservation:
        self._state.step_count += 1
        return self._seen(float(sum(self._ale.act(self._actions[action.action_id]) for _ in range(FRAMES_PER_STEP))))

    def _seen(self, reward: float) -> AtariObservation:
        screen = self._ale.getScreenRGB()
        return AtariObservation(
            screen=screen.ravel().tolist(),
            screen_shape=list(screen.shape),
            legal_actions=list(range(len(self._actions))),
            lives=self._ale.lives(),
            frame_number=self._ale.getFrameNumber(),
            reward=reward,
            done=self._ale.game_over(),
        )

    @property
    def state(self) -> AtariState:
        return self._state


app = create_app(Atari, AtariAction, AtariObservation, env_name="atari", max_concurrent_envs=8)
