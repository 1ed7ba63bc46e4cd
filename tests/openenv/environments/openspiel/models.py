from __future__ import annotations

from openenv.core.env_server.types import Action, Observation, State


class OpenSpielAction(Action):
    action_id: int


class OpenSpielObservation(Observation):
    info_state: list[float]
    legal_actions: list[int]
    current_player_id: int


class OpenSpielState(State):
    game_name: str
    num_players: int
