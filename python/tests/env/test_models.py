"""Models as authors write them: today's, those of the first environments, and the plainest."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from typing import Any, Optional

import pydantic
import pytest
from pydantic import Field, PrivateAttr, field_validator

from hothouse.env import Action, Observation, State
from hothouse.env.codec import AnyCodec, Invalid, PlainCodec, PydanticCodec, codec_of
from hothouse.env.observations import observation, whole


@dataclass
class Command(Action):
    """What to run."""

    command: str
    parameters: dict  # type: ignore[type-arg]
    retries: int = field(default=3, metadata={"ge": 0})
    tags: list[str] = field(default_factory=list)


@dataclass
class Outcome(Observation):
    result: str
    success: bool


@dataclass
class Place(State):
    custom_field: int = 0


@dataclass
class Longer(Command):
    extra_wait: float = 0.0

    def __post_init__(self) -> None:
        self.retries += 100


class Guess(Action):
    number: int
    words: list[str] = []  # noqa: RUF012


class Checked(Action):
    name: str = Field(..., min_length=1, description="who")
    _seen: int = PrivateAttr(default=7)

    @field_validator("name")
    @classmethod
    def _short(cls, value: str) -> str:
        if len(value) > 3:
            raise ValueError("too long a name")
        return value


@dataclass
class Alone:
    text: str
    times: Optional[int] = None


class Bare:
    text: str
    times: int = 2


def test_a_dataclass_is_made_and_changed_as_a_dataclass_is() -> None:
    action = Command("ls", {"a": 1})
    assert (action.command, action.parameters, action.retries, action.tags, action.metadata) == (
        "ls",
        {"a": 1},
        3,
        [],
        {},
    )
    assert action == Command("ls", {"a": 1})
    assert action != Command("ls", {"a": 2})
    assert repr(action) == "Command(metadata={}, command='ls', parameters={'a': 1}, retries=3, tags=[])"
    assert dataclasses.replace(action, retries=9).retries == 9
    assert dataclasses.asdict(action)["metadata"] == {}
    assert Command("a", {}).tags is not Command("b", {}).tags
    for copied in (copy.deepcopy(action), pickle.loads(pickle.dumps(action))):
        assert copied == action
    unchecked: Any = 5
    outcome = Outcome(unchecked, True)
    anything: Any = object()
    outcome.reward = anything
    assert outcome.reward is anything
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'parameters'"):
        Command("ls")


def test_a_dataclass_under_a_dataclass_is_one_too() -> None:
    assert Longer("ls", {}, extra_wait=1.5).retries == 103
    assert codec_of(Longer).decode(b'{"command": "ls", "parameters": {}}').retries == 103


def test_a_state_counts_and_takes_more() -> None:
    place = Place(episode_id="e")
    place.step_count += 1
    assert (place.step_count, place.custom_field) == (1, 0)
    assert json.loads(whole(place, "state")) == {"episode_id": "e", "step_count": 1, "custom_field": 0}
    more: Any = State(episode_id="e", colour="red")
    assert more.colour == "red"
    assert json.loads(whole(more, "state")) == {"episode_id": "e", "step_count": 0, "colour": "red"}


def test_what_a_client_sends_for_a_dataclass_is_checked() -> None:
    codec = codec_of(Command)
    made = codec.decode(b'{"command": "ls", "parameters": {}, "retries": "4"}')
    assert made == Command("ls", {}, 4)
    with pytest.raises(Invalid) as caught:
        codec.decode(b'{"command": 1, "retries": -1, "what": 2}')
    assert [(error["type"], list(error["loc"])) for error in caught.value.errors] == [
        ("string_type", ["command"]),
        ("missing", ["parameters"]),
        ("greater_than_equal", ["retries"]),
        ("extra_forbidden", ["what"]),
    ]
    assert all("url" not in error for error in json.loads(caught.value.text))
    assert codec.schema()["properties"]["retries"] == {
        "type": "integer",
        "title": "Retries",
        "default": 3,
        "minimum": 0,
    }
    assert codec.schema()["additionalProperties"] is False


def test_a_class_without_a_decorator_is_a_model_of_pydantic() -> None:
    assert issubclass(Guess, pydantic.BaseModel)
    assert isinstance(codec_of(Guess), PydanticCodec)
    assert Guess(number="3").number == 3  # type: ignore[arg-type]
    assert Guess(number=1).words is not Guess(number=1).words


def test_all_of_pydantic_may_be_used() -> None:
    made: Any = codec_of(Checked).decode(b'{"name": "abc"}')
    assert (made.name, made._seen, made.model_dump()) == ("abc", 7, {"metadata": {}, "name": "abc"})
    with pytest.raises(Invalid) as caught:
        codec_of(Checked).decode(b'{"name": "abcd"}')
    (error,) = json.loads(caught.value.text)
    assert (error["type"], error["ctx"]) == ("value_error", {"error": "too long a name"})


def test_classes_of_no_kin_are_read_as_well() -> None:
    assert codec_of(Alone).decode(b'{"text": "a", "times": 2}') == Alone("a", 2)
    bare = codec_of(Bare).decode(b'{"text": "a"}')
    assert (type(bare), bare.text, bare.times) == (Bare, "a", 2)
    with pytest.raises(Invalid):
        codec_of(Bare).decode(b'{"text": "a", "more": 1}')
    assert isinstance(codec_of(Bare), PlainCodec)
    for kind in (None, dict, Any, dict[str, int]):
        codec = codec_of(kind)
        assert isinstance(codec, AnyCodec)
        assert codec.decode(b'{"a": 1}') == {"a": 1}
        with pytest.raises(Invalid):
            codec.decode(b"[1]")


def test_an_observation_is_four_lines() -> None:
    said = observation(Outcome("x", True, reward=1.0, metadata={"a": 1}))
    assert said == b'{"result":"x","success":true}\n1.0\nfalse\n{"a":1}'
    assert observation({"x": 1, "done": True}) == b'{"x":1}\nnull\ntrue\nnull'
    assert observation(Alone("a")) == b'{"text":"a","times":null}\nnull\nfalse\nnull'
    with pytest.raises(TypeError, match="the environment gave None"):
        observation(None)
    with pytest.raises(TypeError, match="gave int, which is no observation"):
        observation(3)


WITHOUT_PYDANTIC = """
import sys
for name in ("pydantic", "pydantic_core"):
    sys.modules[name] = None
from dataclasses import dataclass, field
from hothouse.env import Action, Environment, Observation, State, create_app
from hothouse.env.codec import Invalid, PlainCodec

@dataclass
class Command(Action):
    command: str
    retries: int = field(default=3, metadata={"ge": 0})

class Guess(Action):
    number: int
    words: list = []

class Hint(Observation):
    text: str

class Guessing(Environment):
    def reset(self, seed=None):
        self._state = State(episode_id="e", colour="red")
        return Hint(text="guess")
    def step(self, action: Guess) -> Hint:
        self._state.step_count += 1
        return Hint(text="é" * action.number, done=True, reward=float("nan"))
    @property
    def state(self) -> State:
        return self._state

assert Command("ls") == Command(command="ls", retries=3)
assert Guess(number=1).words == [] and Guess(number=1).words is not Guess(number=1).words
app = create_app(Guessing, Guess, Hint)
assert isinstance(app.action_codec, PlainCodec)
session = app.session()
assert session.reset(b'{"seed": 1, "other": 2}') == b'{"text":"guess"}\\nnull\\nfalse\\n{}'
assert session.step(b'{"number": "2"}') == '{"text":"éé"}\\nnull\\ntrue\\n{}'.encode()
assert session.state() == b'{"episode_id":"e","step_count":1,"colour":"red"}'
try:
    session.step(b'{"number": "x", "words": 1, "more": 0}')
except Invalid as error:
    print(error.text.decode())
assert "pydantic" not in [name for name, module in sys.modules.items() if module is not None]
print(app.about()["schema"]["action"]["properties"]["number"])
"""


def test_the_same_works_without_pydantic() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(WITHOUT_PYDANTIC)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    errors, schema = done.stdout.splitlines()
    assert [error["type"] for error in json.loads(errors)] == ["int_parsing", "list_type", "extra_forbidden"]
    assert schema == "{'type': 'integer', 'title': 'Number'}"
