"""A typed client of the coding environment: what code printed, how it ended, and the reward for how it is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from checks import Report, same
from openenv.core.client_types import StepResult
from openenv.core.env_client import EnvClient
from openenv.core.env_server.types import Action, Observation, State
from pydantic import ConfigDict


class CodeAction(Action):
    code: str


class CodeObservation(Observation):
    model_config = ConfigDict(extra="forbid")
    stdout: str
    stderr: str
    exit_code: int


class CodeState(State):
    model_config = ConfigDict(extra="forbid")
    last_exit_code: int


class CodingEnv(EnvClient[CodeAction, CodeObservation, CodeState]):
    def _step_payload(self, action: CodeAction) -> dict[str, Any]:
        return {"code": action.code}

    def _parse_result(self, payload: dict[str, Any]) -> StepResult[CodeObservation]:
        observation = CodeObservation(**payload["observation"])
        return StepResult(observation=observation, reward=payload.get("reward"), done=bool(payload.get("done", False)))

    def _parse_state(self, payload: dict[str, Any]) -> CodeState:
        return CodeState(**payload)


SCORED = {
    "short": ("print(1)", 0.1, 0),
    "long": ("#" + "a" * 100 + "\nprint(1)", 0.0, 0),
    "short, forbidden": ("import os", -0.9, None),
    "long, forbidden": ("import subprocess\n#" + "a" * 100, -1.0, None),
    "forbidden in a comment alone": ("# eval(\nprint(1)", -0.9, 0),
    "short, no Python": ("print('Hello'", -0.1, 1),
    "long, no Python": ("print('Hello'\n#" + "a" * 100, -0.2, 1),
    "short, fails": ("1/0", 0.1, 1),
}
"""Code, its reward, and its exit code where that does not hang on how imports are kept from it."""


def run(report: Report, url: str, flavour: Callable[[Any], Any]) -> None:
    """Plays with one session."""
    with flavour(CodingEnv(base_url=url)) as client:

        def step(code: str) -> Any:
            return client.step(CodeAction(code=code))

        with report.check("reset"):
            result = client.reset()
            same((result.observation.stdout, result.observation.stderr, result.observation.exit_code), ("", "", 0))
            same((result.reward, result.done), (0.0, False))
        with report.check("what is printed"):
            result = step("print('Hello, World!')")
            same(result.observation.stdout, "Hello, World!\n")
            same((result.observation.stderr, result.observation.exit_code), ("", 0))
            same(result.observation.metadata, {"last_code": "print('Hello, World!')"})
        with report.check("names live on"):
            step("x = 5 + 3")
            same(step("print(x)").observation.stdout, "8\n")
        with report.check("the last expression's value"):
            same(step("x*2").observation.stdout, "16")
            same(step("[i for i in range(3)]").observation.stdout, "[0, 1, 2]")
            same(step("{'a':[1,2]}").observation.stdout, '{"a": [1, 2]}')
            same(step("'h\u00e9'").observation.stdout, '"h\\u00e9"')
            same(step("print('a');print('b')").observation.stdout, "a\nb\n")
        with report.check("an error and its exit code"):
            result = step("1/0")
            same((result.observation.stdout, result.observation.exit_code, result.done), ("", 1, False))
            assert "ZeroDivisionError: division by zero" in result.observation.stderr, result
            same(client.state().last_exit_code, 1)
        with report.check("the session lives on after an error"):
            same(step("print(x)").observation.stdout, "8\n")
            same((client.state().last_exit_code, client.state().step_count), (0, 10))
        for name, (code, reward, exit_code) in SCORED.items():
            with report.check(f"reward: {name}"):
                result = step(code)
                same(round(result.reward, 9), reward)
                same(exit_code is None or result.observation.exit_code == exit_code, True)
        with report.check("what was forbidden, in the metadata"):
            same(step("import os").observation.metadata, {"last_code": "import os", "safety_violation": "import\\s+os"})
        with report.check("reset forgets"):
            client.reset()
            result = step("print(x)")
            same(result.observation.exit_code, 1)
            assert "x" in result.observation.stderr, result
            same(client.state().step_count, 1)
