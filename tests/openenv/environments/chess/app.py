"""Chess against one who moves at random. Beside its requirements it needs the package chess."""

from __future__ import annotations

import random
from typing import Any
from uuid import uuid4

import chess
from models import ChessAction, ChessObservation, ChessState
from openenv.core.env_server.http_server import create_app
from openenv.core.env_server.interfaces import Environment


class Chess(Environment):
    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(
        self, seed: int | None = None, episode_id: str | None = None, fen: str = chess.STARTING_FEN
    ) -> ChessObservation:
        self._random = random.Random(seed or 0)
        self._board = chess.Board(fen)
        self._state = ChessState(episode_id=episode_id or str(uuid4()), step_count=0, move_history=[])
        return self._seen(0.0)

    def step(self, action: ChessAction) -> ChessObservation:
        move = chess.Move.from_uci(action.move)
        if move not in self._board.legal_moves:
            return self._seen(-0.1)
        self._play(move)
        if not self._board.is_game_over():
            self._play(self._random.choice(list(self._board.legal_moves)))
        outcome = self._board.outcome()
        if outcome is None or outcome.winner is None:
            return self._seen(0.0)
        return self._seen(1.0 if outcome.winner == chess.WHITE else -1.0)

    def _play(self, move: chess.Move) -> None:
        self._board.push(move)
        self._state.step_count += 1
        self._state.move_history.append(move.uci())

    def _seen(self, reward: float) -> ChessObservation:
        over = self._board.is_game_over()
        return ChessObservation(
            fen=self._board.fen(),
            legal_moves=[move.uci() for move in self._board.legal_moves],
            is_check=self._board.is_check(),
            result=self._board.result() if over else None,
            reward=reward,
            done=over,
            metadata={"fullmove_number": self._board.fullmove_number},
        )

    @property
    def state(self) -> ChessState:
        return self._state


# One that does not say that it may have several sessions gets one.
app = create_app(Chess, ChessAction, ChessObservation, env_name="chess")
