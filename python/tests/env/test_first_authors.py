"""An environment as the first authors wrote theirs: dataclasses, relative imports, a shared instance, a client of two
classes. Only what it is imported from is another."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from ..env_clients.conftest import EnvServer

FILES = {
    "__init__.py": "",
    "server/__init__.py": "",
    "openenv.yaml": "spec_version: 1\nname: first_env\nversion: 1.0.0\nruntime: hothouse\napp: server.app:app\n",
    "models.py": """
from dataclasses import dataclass
from hothouse.env import Action, Observation, State

@dataclass
class FirstAction(Action):
    command: str
    parameters: dict

@dataclass
class FirstObservation(Observation):
    result: str
    success: bool

@dataclass
class FirstState(State):
    custom_field: int = 0
""",
    "server/rules.py": """
import uuid
from hothouse.env import Environment
from ..models import FirstAction, FirstObservation, FirstState

class FirstEnvironment(Environment):
    def __init__(self):
        super().__init__()
        self._state = FirstState()

    def reset(self) -> FirstObservation:
        self._state = FirstState(episode_id=str(uuid.uuid4()))
        return FirstObservation(result="Ready", success=True)

    def step(self, action: FirstAction) -> FirstObservation:
        self._state.step_count += 1
        return FirstObservation(result=action.command.upper(), success=True)

    @property
    def state(self) -> FirstState:
        return self._state
""",
    "server/app.py": """
from hothouse.env import create_fastapi_app
from ..models import FirstAction, FirstObservation
from .rules import FirstEnvironment

env = FirstEnvironment()
app = create_fastapi_app(env, FirstAction, FirstObservation)
""",
    "client.py": """
from hothouse.env import HTTPEnvClient, StepResult
from .models import FirstAction, FirstObservation, FirstState

class FirstEnv(HTTPEnvClient[FirstAction, FirstObservation]):
    def _step_payload(self, action: FirstAction) -> dict:
        return {"command": action.command, "parameters": action.parameters}

    def _parse_result(self, payload: dict) -> StepResult:
        return StepResult(
            observation=FirstObservation(**payload["observation"]),
            reward=payload.get("reward"),
            done=payload.get("done", False),
        )

    def _parse_state(self, payload: dict) -> FirstState:
        return FirstState(**payload)
""",
}


@pytest.mark.timeout(120)
def test_the_first_authors_environment_plays(binary: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "first_env"
    for name, content in FILES.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(content)
    server = EnvServer(binary, tmp_path, str(package), "--era", "seed")
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        client = importlib.import_module("first_env.client")
        models = importlib.import_module("first_env.models")
        env = client.FirstEnv(base_url=server.url)
        assert env.reset().observation == models.FirstObservation(result="Ready", success=True)
        result = env.step(models.FirstAction(command="hello", parameters={"a": [1]}))
        assert (result.observation.result, result.done) == ("HELLO", False)
        state = env.state()
        assert (type(state), state.step_count, state.custom_field) == (models.FirstState, 1, 0)
        env.close()
    finally:
        server.end()
        for name in [each for each in sys.modules if each.startswith("first_env")]:
            del sys.modules[name]
