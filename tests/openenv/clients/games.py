"""Typed clients of two games, as an author writes them: every field that the observation does not name is an error."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

from checks import Report, same
from openenv.core.client_types import StepResult
from openenv.core.env_client import EnvClient
from openenv.core.env_server.types import Action, Observation, State
from pydantic import ConfigDict


class Move(str, Enum):
    UP = "UP"
    DOWN = "DOWN"
    LEFT = "LEFT"
    RIGHT = "RIGHT"


class GridWorldAction(Action):
    action: Move


class GridWorldObservation(Observation):
    model_config = ConfigDict(extra="forbid")
    x: int
    y: int
    message: str


class GridWorldEnv(EnvClient[GridWorldAction, GridWorldObservation, State]):
    def _step_payload(self, action: GridWorldAction) -> dict[str, Any]:
        return action.model_dump()

    def _parse_result(self, payload: dict[str, Any]) -> StepResult[GridWorldObservation]:
        observation = GridWorldObservation(
            **payload["observation"], reward=payload["reward"], done=payload["done"]
        )
        return StepResult(observation=observation, reward=payload["reward"], done=payload["done"])

    def _parse_state(self, payload: dict[str, Any]) -> State:
        return State(**payload)


class Connect4Action(Action):
    column: int


class Connect4Observation(Observation):
    model_config = ConfigDict(extra="forbid")
    board: list[list[int]]
    legal_actions: list[int]


class Connect4State(State):
    model_config = ConfigDict(extra="forbid")
    board: list[list[int]]
    next_player: int


class Connect4Env(EnvClient[Connect4Action, Connect4Observation, Connect4State]):
    def _step_payload(self, action: Connect4Action) -> dict[str, Any]:
        return {"column": action.column}

    def _parse_result(self, payload: dict[str, Any]) -> StepResult[Connect4Observation]:
        observation = Connect4Observation(
            **payload["observation"], reward=payload["reward"], done=payload["done"]
        )
        return StepResult(observation=observation, reward=payload["reward"], done=payload["done"])

    def _parse_state(self, payload: dict[str, Any]) -> Connect4State:
        return Connect4State(**payload)


def grid_world(report: Report, url: str, flavour: Callable[[Any], Any]) -> None:
    """Walks to the goal: `x` counts rows, so that DOWN is what makes it larger."""
    with flavour(GridWorldEnv(base_url=url)) as client:

        def go(move: Move) -> tuple[int, int, float, bool]:
            result = client.step(GridWorldAction(action=move))
            return (result.observation.x, result.observation.y, result.reward, result.done)

        with report.check("reset"):
            result = client.reset()
            same((result.observation.x, result.observation.y, result.reward, result.done), (0, 0, 0.0, False))
            assert result.observation.message, result
        with report.check("the edge holds"):
            same([go(Move.UP), go(Move.LEFT)], [(0, 0, -0.1, False)] * 2)
        with report.check("each direction"):
            same(
                [go(Move.DOWN), go(Move.RIGHT), go(Move.UP), go(Move.LEFT)],
                [(1, 0, -0.1, False), (1, 1, -0.1, False), (0, 1, -0.1, False), (0, 0, -0.1, False)],
            )
        with report.check("the way to the goal"):
            way = [go(Move.DOWN) for _ in range(4)] + [go(Move.RIGHT) for _ in range(4)]
            same(way[-2:], [(4, 3, -0.1, False), (4, 4, 1.0, True)])
            same(client.state().step_count, 14)
        with report.check("next episode"):
            client.reset()
            same((go(Move.DOWN), client.state().step_count), ((1, 0, -0.1, False), 1))
        with report.check("refused: no direction"):
            try:
                answer = client.step(GridWorldAction.model_construct(action="NORTH", metadata={}))
            except RuntimeError as error:
                same(str(error), "Server error: Invalid message (code: VALIDATION_ERROR)")
            else:
                raise AssertionError(answer)


def connect4(report: Report, url: str, flavour: Callable[[Any], Any]) -> None:
    """Both sides are the client's; the board knows them as 1 and -1."""
    empty = [[0] * 7 for _ in range(6)]
    with flavour(Connect4Env(base_url=url)) as client:

        def play(*columns: int) -> Any:
            result = None
            for column in columns:
                result = client.step(Connect4Action(column=column))
            return result

        with report.check("reset"):
            result = client.reset()
            same((result.observation.board, result.observation.legal_actions), (empty, list(range(7))))
            same((result.reward, result.done), (0.0, False))
        with report.check("pieces fall, and the sides take turns"):
            board = play(3, 3, 0).observation.board
            same([board[5][3], board[4][3], board[5][0]], [1, -1, 1])
            same(sum(abs(cell) for row in board for cell in row), 3)
        with report.check("state"):
            state = client.state()
            same((state.board, state.next_player, state.step_count), (board, -1, 3))
        with report.check("whose turn it is, in the metadata"):
            same(play(6).observation.metadata, {"next_player": 1})
        with report.check("four in a row win"):
            client.reset()
            result = play(0, 1, 0, 1, 0, 1)
            same((result.reward, result.done), (0.0, False))
            result = play(0)
            same((result.reward, result.done), (1.0, True))
        with report.check("four in a diagonal win"):
            client.reset()
            result = play(0, 1, 1, 2, 2, 3, 2, 3, 3, 6, 3)
            same((result.reward, result.done), (1.0, True))
        with report.check("a full column is no legal action, and ends the game"):
            client.reset()
            result = play(5, 5, 5, 5, 5, 5)
            same((result.done, result.observation.legal_actions), (False, [0, 1, 2, 3, 4, 6]))
            result = play(5)
            same((float(result.reward), result.done), (-1.0, True))
        with report.check("a column off the board ends the game"):
            client.reset()
            result = play(7)
            same((float(result.reward), result.done, result.observation.board), (-1.0, True, empty))
