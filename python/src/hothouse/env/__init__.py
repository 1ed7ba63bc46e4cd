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
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from .async_client import AsyncEnvClient, AsyncGenericEnvClient
    from .client import EnvClient, GenericEnvClient
    from .errors import EnvConnectionLost, EnvError
    from .http_client import HTTPEnvClient
    from .providers import DockerProvider, EnvProvider
    from .results import StepResult
    from .vector import VectorClient

__all__ = [
    "RESERVED_TOOL_NAMES",
    "Action",
    "App",
    "AsyncEnvClient",
    "AsyncGenericEnvClient",
    "CallToolAction",
    "CallToolObservation",
    "CompositeTransform",
    "ConcurrencyConfig",
    "DockerProvider",
    "EnvClient",
    "EnvConnectionLost",
    "EnvError",
    "EnvProvider",
    "Environment",
    "EnvironmentMetadata",
    "ExponentialDiscounting",
    "ExponentialDiscountingTrajectoryRubric",
    "Gate",
    "GenericEnvClient",
    "HTTPEnvClient",
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
    "StepResult",
    "ToolErrorType",
    "TrajectoryRubric",
    "Transform",
    "VectorClient",
    "WeightedSum",
    "create_app",
    "create_fastapi_app",
    "tool",
]


LAZY = {
    "AsyncEnvClient": "async_client",
    "AsyncGenericEnvClient": "async_client",
    "DockerProvider": "providers",
    "EnvClient": "client",
    "EnvConnectionLost": "errors",
    "EnvError": "errors",
    "EnvProvider": "providers",
    "GenericEnvClient": "client",
    "HTTPEnvClient": "http_client",
    "StepResult": "results",
    "VectorClient": "vector",
}
"""What clients are made of, and where: imported when it is first used, since sandboxes have none of what it needs."""


def __getattr__(name: str) -> Any:
    """What `LAZY` names."""
    module = LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)
