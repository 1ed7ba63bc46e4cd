from __future__ import annotations

from openenv.core.env_server.types import Action, Observation, State


class AtariAction(Action):
    action_id: int


class AtariObservation(Observation):
    screen: list[int]
    screen_shape: list[int]
    legal_actions: list[int]
    lives: int
    frame_number: int


class AtariState(State):
    game_name: str
