from __future__ import annotations

from openenv.core.env_server.types import Action, Observation, State


class ChessAction(Action):
    move: str


class ChessObservation(Observation):
    fen: str
    legal_moves: list[str]
    is_check: bool
    result: str | None = None


class ChessState(State):
    move_history: list[str]
