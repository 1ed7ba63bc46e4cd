"""What is to be served is found by its name: in a module, or in a directory as people have them."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hothouse.env import Action, App, Environment, Observation, State, create_app
from hothouse.env.target import TargetInvalid, app_of, models_of

# The example of the first README of such environments, with only its import lines changed.
MODELS = '''
# models.py
from dataclasses import dataclass
from hothouse.env import Action, Observation, State

@dataclass
class MyAction(Action):
    """Your custom action."""
    command: str
    parameters: dict

@dataclass
class MyObservation(Observation):
    """Your custom observation."""
    result: str
    success: bool

@dataclass
class MyState(State):
    """Custom state fields."""
    custom_field: int = 0
'''
ENVIRONMENT = """
# server/my_environment.py
import uuid
from hothouse.env import Environment
from ..models import MyAction, MyObservation, MyState

class MyEnvironment(Environment):
    def __init__(self):
        super().__init__()
        self._state = MyState()

    def reset(self) -> MyObservation:
        self._state = MyState(episode_id=str(uuid.uuid4()))
        return MyObservation(result="Ready", success=True)

    def step(self, action: MyAction) -> MyObservation:
        # Implement your logic here
        self._state.step_count += 1
        result = self._execute_command(action.command)
        return MyObservation(result=result, success=True)

    @property
    def state(self) -> MyState:
        return self._state

    def _execute_command(self, command):
        return f"ran {command}"
"""
APP = """
# server/app.py
from hothouse.env import create_fastapi_app
from ..models import MyAction, MyObservation
from .my_environment import MyEnvironment

env = MyEnvironment()
app = create_fastapi_app(env, MyAction, MyObservation)
"""
MANIFEST = """
spec_version: 1
name: my_env
type: space
runtime: fastapi
app: server.app:app
port: 8000
"""


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """The example as a directory."""
    place = tmp_path / "my_env"
    (place / "server").mkdir(parents=True)
    (place / "models.py").write_text(MODELS)
    (place / "server" / "my_environment.py").write_text(ENVIRONMENT)
    (place / "server" / "app.py").write_text(APP)
    (place / "openenv.yaml").write_text(MANIFEST)
    (place / "README.md").write_text("# Mine\n")
    before, path = set(sys.modules), list(sys.path)
    yield place
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if name.split(".")[0] in {"my_env", "server", "models", "my-env"}:
            del sys.modules[name]


def test_the_first_example_is_served(directory: Path) -> None:
    app = app_of(str(directory))
    about = app.about()
    assert (about["name"], about["class"], about["readme"], about["max_sessions"]) == (
        "my_env",
        "MyEnvironment",
        "# Mine\n",
        1,
    )
    assert about["schema"]["action"]["required"] == ["command", "parameters"]
    assert about["schema"]["action"]["description"] == "Your custom action."
    assert about["schema"]["state"]["properties"]["custom_field"]["default"] == 0
    session = app.session()
    assert session.reset(b'{"seed": 1, "foo": 2}') == b'{"result":"Ready","success":true}\nnull\nfalse\n{}'
    said = session.step(b'{"command": "ls", "parameters": {"a": 1}}')
    assert said == b'{"result":"ran ls","success":true}\nnull\nfalse\n{}'
    state = json.loads(session.state())
    assert (state["step_count"], state["custom_field"], len(state["episode_id"])) == (1, 0, 36)
    assert app.session().env is session.env, "one instance for all"


def test_the_client_of_the_example_finds_its_names_when_there_are_some(directory: Path) -> None:
    client = "from hothouse.env import HTTPEnvClient, StepResult"
    done = subprocess.run([sys.executable, "-c", client], capture_output=True, text=True, timeout=50, check=False)
    has_client = (Path(__file__).parents[2] / "src" / "hothouse" / "env" / "client.py").exists()
    assert (done.returncode == 0) == has_client, done.stderr
    assert has_client or "cannot import name 'HTTPEnvClient'" in done.stderr


def test_a_directory_that_is_no_package_is_served(directory: Path, tmp_path: Path) -> None:
    bare = tmp_path / "my-env"
    directory.rename(bare)
    (bare / "openenv.yaml").write_text("name: bare\n")
    for name in ("server/app.py", "server/my_environment.py"):
        path = bare / name
        text = path.read_text().replace("from ..models", "from models").replace("from .my", "from server.my")
        path.write_text(text)
    assert app_of(str(bare)).about()["name"] == "bare"


def test_what_is_wrong_in_a_directory_is_said(directory: Path) -> None:
    (directory / "openenv.yaml").write_text("app: [")
    with pytest.raises(TargetInvalid, match="is no YAML"):
        app_of(str(directory))
    (directory / "openenv.yaml").write_text("- 1")
    with pytest.raises(TargetInvalid, match="has to be a mapping"):
        app_of(str(directory))
    (directory / "openenv.yaml").write_text("app: server.app:nothing")
    with pytest.raises(TargetInvalid, match=r"my_env\.server\.app has no 'nothing'"):
        app_of(str(directory))


def test_what_is_wrong_in_its_modules_is_raised(directory: Path) -> None:
    (directory / "server" / "app.py").write_text("import nowhere_to_be_found")
    with pytest.raises(ModuleNotFoundError, match="nowhere_to_be_found"):
        app_of(str(directory))


class Say(Action):
    message: str


class Heard(Observation):
    message: str


class Hinted(Environment[Any, Any, Any]):
    def step(self, action: Say) -> Heard:  # type: ignore[override]
        return Heard(message=action.message)


class Generic(Environment[Say, Heard, State]):
    pass


class Plain:
    """Not even derived."""

    state = {"calm": True}  # noqa: RUF012

    def reset(self) -> dict[str, Any]:
        return {"message": "ready"}

    def step(self, action: dict[str, Any]) -> dict[str, Any]:
        return {"message": action["message"], "reward": 1, "done": True}


def test_the_models_of_a_class_are_found() -> None:
    assert models_of(Hinted) == (Say, Heard)
    assert models_of(Generic) == (Say, Heard)


def test_any_class_with_reset_and_step_is_an_environment() -> None:
    app = app_of(f"{__name__}:Plain")
    session = app.session()
    assert session.reset(b'{"seed": 1}') == b'{"message":"ready"}\nnull\nfalse\nnull'
    assert session.step(b'{"message": "x"}') == b'{"message":"x"}\n1\ntrue\nnull'
    assert session.state() == b'{"calm":true}'
    session.close()
    assert app.about()["class"] == "Plain"


class Described(Hinted):
    def __init__(self) -> None:
        raise RuntimeError("too dear to be made only to be asked")

    def get_metadata(self) -> Any:
        class Told:
            name, description, version, readme_content = "told", "As told", "2.5", "# Read"

        return Told()


def test_an_environment_says_what_it_is() -> None:
    about = create_app(Described, Say, Heard).about()
    assert (about["name"], about["description"], about["version"], about["readme"]) == (
        "told",
        "As told",
        "2.5",
        "# Read",
    )
    named = create_app(Described, Say, Heard, "env_name", reset_observation_cls=Observation).about()
    assert named["name"] == "env_name"
    assert named["schema"]["reset_observation"]["title"] == "Observation"


def test_create_app_takes_what_it_has_always_taken() -> None:
    app = create_app(
        Hinted,
        Say,
        Heard,
        env_name="x",
        max_concurrent_envs=3,
        gradio_builder=None,
        custom_tab_name="Mine",
        custom_tab_primary=True,
        show_default_tab=False,
        title_override="Title",
        state_cls=State,
        mode="simulation",
    )
    assert isinstance(app, App)
    assert app.max_sessions() == 3
    with pytest.raises(ValueError, match="at least 1"):
        create_app(Hinted, Say, Heard, max_concurrent_envs=0)


def test_an_app_knows_where_it_is(tmp_path: Path) -> None:
    package = tmp_path / "own_env" / "server"
    package.mkdir(parents=True)
    (package / "app.py").write_text(
        textwrap.dedent(
            """
            from hothouse.env import Environment, create_app
            app = create_app(Environment, dict, dict)
            if __name__ == "__main__":
                print(app.spec)
            """
        )
    )
    done = subprocess.run(
        [sys.executable, "-m", "own_env.server.app"],
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
        cwd=tmp_path,
    )
    assert done.stdout == "own_env.server.app:app\n"
    with pytest.raises(RuntimeError, match="name it there"):
        _ = create_app(Hinted, Say, Heard).spec


def test_running_an_app_is_running_hothouse(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        textwrap.dedent(
            """
            from hothouse.env import Environment, create_app
            app = create_app(Environment, dict, dict)
            app.run("0.0.0.0", 8123)
            """
        )
    )
    program = tmp_path / "hothouse"
    # Stands for the program, which is not what is tested here, and tells what it was called with.
    program.write_text('#!/bin/sh\necho "$@"\necho "$PYTHONPATH"\n')
    program.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "own"],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOTHOUSE_BINARY": str(program)},
    )
    assert done.stderr == ""
    called, python_path = done.stdout.splitlines()
    assert called == "env serve own:app --host 0.0.0.0 --port 8123 --insecure"
    assert str(tmp_path) in python_path.split(":")
