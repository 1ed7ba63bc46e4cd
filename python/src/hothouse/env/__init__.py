"""Environments, for their authors and for those who use them.

    from hothouse.env import Action, Environment, Observation, State, create_app

    class Guess(Action):
        number: int

    class Hint(Observation):
        text: str

    class Guessing(Environment):
        def reset(self, seed=None):
            self._state, self._number = State(), random.Random(seed).randrange(100)
            return Hint(text="guess")

        def step(self, action: Guess) -> Hint:
            self._state.step_count += 1
            right = action.number == self._number
            return Hint(text="right" if right else "wrong", done=right, reward=float(right))

        @property
        def state(self) -> State:
            return self._state

    app = create_app(Guessing, Guess, Hint)

`hothouse env serve module:app` serves it. Actions and observations may be models of pydantic, dataclasses, or classes
with annotations; only what is used has to be installed.
"""

from __future__ import annotations

import importlib
from typing import Any

from .app import App, ConcurrencyConfig, create_app, create_fastapi_app
from .environment import Environment, EnvironmentMetadata
from .mcp_environment import (
    CallToolAction,
    CallToolObservation,
    ListToolsAction,
    ListToolsObservation,
    MCPEnvironment,
)
from .models import Action, Observation, State
from .rubric import (
    ExponentialDiscounting,
    ExponentialDiscountingTrajectoryRubric,
    Gate,
    Rubric,
    RubricDict,
    RubricList,
    Sequential,
    TrajectoryRubric,
    WeightedSum,
)
from .tools import RESERVED_TOOL_NAMES, ToolErrorType, tool
from .transform import CompositeTransform, NullTransform, Transform

__all__ = [
    "RESERVED_TOOL_NAMES",
    "Action",
    "App",
    "CallToolAction",
    "CallToolObservation",
    "CompositeTransform",
    "ConcurrencyConfig",
    "Environment",
    "EnvironmentMetadata",
    "ExponentialDiscounting",
    "ExponentialDiscountingTrajectoryRubric",
    "Gate",
    "ListToolsAction",
    "ListToolsObservation",
    "MCPEnvironment",
    "NullTransform",
    "Observation",
    "Rubric",
    "RubricDict",
    "RubricList",
    "Sequential",
    "State",
    "ToolErrorType",
    "TrajectoryRubric",
    "Transform",
    "WeightedSum",
    "create_app",
    "create_fastapi_app",
    "tool",
]


def __getattr__(name: str) -> Any:
    """What clients are made of, such as `HTTPEnvClient` and `StepResult`, is imported when it is first used."""
    if not name.startswith("_"):
        try:
            client = importlib.import_module(f"{__name__}.client")
        except ModuleNotFoundError as error:
            if error.name != f"{__name__}.client":
                raise
        else:
            if hasattr(client, name):
                return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
