"""A game of OpenSpiel, all of whose sides the client plays; what chance decides comes of the seed.

`OPENSPIEL_GAME` names the game. Beside its requirements it needs open-spiel.
"""

from __future__ import annotations

import os
import random
from typing import Any
from uuid import uuid4

import pyspiel
from models import OpenSpielAction, OpenSpielObservation, OpenSpielState
from openenv.core.env_server.http_server import create_app
from openenv.core.env_server.interfaces import Environment

GAME = os.environ.get("OPENSPIEL_GAME", "catch")


class OpenSpiel(Environment):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self._game = pyspiel.load_game(GAME)
        self.reset(seed=0)

    def reset(self, seed: int | None = None, episode_id: str | None = None, **_: Any) -> OpenSpielObservation:
        self._random = random.Random(seed)
        self._position = self._game.new_initial_state()
        self._state = OpenSpielState(
            episode_id=episode_id or str(uuid4()),
            step_count=0,
            game_name=GAME,
            num_players=self._game.num_players(),
        )
        return self._seen(0)

    def step(self, action: OpenSpielAction, timeout_s: float | None = None, **_: Any) -> OpenSpielObservation:
        if action.action_id not in self._position.legal_actions():
            raise ValueError(f"{action.action_id} is no legal action; there are {self._position.legal_actions()}")
        player = self._position.current_player()
        self._position.apply_action(action.action_id)
        self._state.step_count += 1
        return self._seen(player)

    def _seen(self, player: int) -> OpenSpielObservation:
        while self._position.is_chance_node():
            outcomes, odds = zip(*self._position.chance_outcomes())
            self._position.apply_action(self._random.choices(outcomes, odds)[0])
        over = self._position.is_terminal()
        whose = player if over else self._position.current_player()
        return OpenSpielObservation(
            info_state=self._position.observation_tensor(whose),
            legal_actions=self._position.legal_actions(),
            current_player_id=self._position.current_player(),
            reward=self._position.player_return(player),
            done=over,
        )

    @property
    def state(self) -> OpenSpielState:
        return self._state


app = create_app(OpenSpiel, OpenSpielAction, OpenSpielObservation, env_name="openspiel", max_concurrent_envs=8)
