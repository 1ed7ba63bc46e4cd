"""Environments of gymnasium, served as any other: `gym:CartPole-v1`, `gym:FrozenLake-v1?is_slippery=false`.

An action is `{"action": value}`, an observation `{"observation": value, "terminated", "truncated"}`, with `"info"`
where there is any. `reset` takes `seed` and `options`. An episode is done when it is terminated or truncated. Values
are as the spaces' own samples, arrays as nested lists; the spaces themselves are in the greeting of the worker, under
`gymnasium`, and in the schemas, as `x-gymnasium-space`.
"""

from __future__ import annotations

import functools
import inspect
import json
import uuid
from typing import Any, Optional
from urllib.parse import parse_qsl

import gymnasium

from .app import App
from .codec import Invalid, codec_of, loaded
from .environment import Environment
from .json_schema import title_of
from .models import State
from .scalars import WRONG, Check, Errors
from .spaces import described, schema_of_space
from .texts import Unsayable, sayable
from .validation import check_of
from .values import Arrays, check_of_space, checked_object, plain_of_space

ANY_METADATA = {"type": "object", "additionalProperties": True, "title": "Metadata"}


class FieldCodec:
    """Reads an action of one field; its metadata may come along and is not looked at."""

    def __init__(self, name: str, check: Check, schema: dict[str, Any]) -> None:
        self._name = name
        self._parts: dict[str, Check] = {name: check}
        self._parts_with: dict[str, Check] = {**self._parts, "metadata": check_of(dict)}
        self._schema = schema

    def decode(self, said: bytes) -> Any:
        """The value of the field. Raises `Invalid`."""
        value = loaded(said)
        errors: Errors = []
        parts = self._parts_with if isinstance(value, dict) and "metadata" in value else self._parts
        made = checked_object(value, parts, errors)
        if made is WRONG:
            raise Invalid(errors)
        return made[self._name]

    def schema(self) -> dict[str, Any]:
        """An object with the field."""
        return object_schema("Action", {self._name: self._schema, "metadata": ANY_METADATA}, (self._name,))


def object_schema(title: str, properties: dict[str, Any], required: tuple[str, ...]) -> dict[str, Any]:
    """The schema of an object, each of its fields with a title."""
    titled = {name: {"title": title_of(name), **schema} for name, schema in properties.items()}
    schema = {"title": title, "type": "object", "properties": titled, "additionalProperties": False}
    return {**schema, "required": list(required)} if required else schema


def field_schema(space: Any) -> dict[str, Any]:
    """The schema of a value of a space, with the space itself."""
    return {**schema_of_space(space), "x-gymnasium-space": described(space)}


class GymnasiumEnvironment(Environment[Any, dict[str, Any], dict[str, Any]]):
    """One environment of gymnasium."""

    def __init__(self, name: str, kwargs: Optional[dict[str, Any]] = None) -> None:
        super().__init__()
        self.env: Any = made(name, kwargs or {})
        self._arrays = Arrays.LISTS
        self._plain = plain_of_space(self.env.observation_space)
        self._episode_id: Optional[str] = None
        self._step_count = 0

    def pack_arrays(self) -> None:
        """Larger arrays are sent packed from now on."""
        self._arrays = Arrays.PACKED
        self._plain = plain_of_space(self.env.observation_space, self._arrays)

    def reset(  # type: ignore[override]
        self,
        seed: Optional[int] = None,
        episode_id: Optional[str] = None,
        options: Optional[dict[str, Any]] = None,
    ) -> dict[str, Any]:
        """Begins an episode; without a seed with random numbers of its own."""
        self._episode_id, self._step_count = episode_id or str(uuid.uuid4()), 0
        observation, info = self.env.reset(seed=seed, options=options)
        return self._seen(observation, None, False, False, info)

    def step(self, action: Any) -> dict[str, Any]:  # type: ignore[override]
        """Takes an action of the space."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._step_count += 1
        return self._seen(observation, float(reward), bool(terminated), bool(truncated), info)

    def _seen(
        self, observation: Any, reward: Any, terminated: bool, truncated: bool, info: dict[str, Any]
    ) -> dict[str, Any]:
        seen = {
            "observation": self._plain(observation),
            "terminated": terminated,
            "truncated": truncated,
            "reward": reward,
            "done": terminated or truncated,
        }
        if info:
            seen["info"] = info
        return seen

    @property
    def state(self) -> dict[str, Any]:
        """How far the episode is."""
        return {"episode_id": self._episode_id, "step_count": self._step_count}

    def close(self) -> None:
        """Closes it."""
        self.env.close()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_plain"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._plain = plain_of_space(self.env.observation_space, self._arrays)


def made(name: str, kwargs: dict[str, Any]) -> Any:
    """An environment by its name, which may have its module before it: `my_envs:Maze-v0`."""
    # What its checker says is for authors; it would be said again in each session.
    return gymnasium.make(name, disable_env_checker=True, **kwargs)


def parted(target: str) -> tuple[str, dict[str, Any]]:
    """A name, and the arguments behind `?`, which are JSON where they can be."""
    name, _, query = target.partition("?")
    arguments = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        try:
            arguments[key] = json.loads(value)
        except ValueError:
            # A text may come without its quotes.
            arguments[key] = value
    return name, arguments


def app_of_gymnasium(target: str) -> App:
    """The app of an environment of gymnasium."""
    name, kwargs = parted(target)
    trial = made(name, kwargs)
    try:
        action, observation = trial.action_space, trial.observation_space
        codec = FieldCodec("action", check_of_space(action), field_schema(action))
        seen = object_schema(
            "Observation",
            {
                "observation": field_schema(observation),
                "terminated": {"type": "boolean"},
                "truncated": {"type": "boolean"},
                "info": {"type": "object", "additionalProperties": True},
                "reward": {"anyOf": [{"type": "number"}, {"type": "null"}]},
                "done": {"type": "boolean"},
                "metadata": ANY_METADATA,
            },
            ("observation", "terminated", "truncated"),
        )
        cls = type(trial.unwrapped)
        about: dict[str, Any] = {
            "class": cls.__name__,
            "version": str(getattr(trial.spec, "version", None) or 0),
            "description": first_sentence(cls) or f"{name} of gymnasium",
            "gymnasium": {
                "action_space": described(action),
                "observation_space": described(observation),
                "spec": told_spec(trial.spec),
                "metadata": said(trial.metadata),
            },
        }
        reward_range = getattr(trial.unwrapped, "reward_range", None)
        if reward_range is not None:
            about["gymnasium"]["reward_range"] = [repr(float(bound)) for bound in reward_range]
    finally:
        trial.close()
    return App(
        functools.partial(GymnasiumEnvironment, name, kwargs),
        env_name=name,
        action_codec=codec,
        schemas={"observation": seen, "state": codec_of(State).schema()},
        about=about,
    )


def told_spec(spec: Any) -> dict[str, Any]:
    """What is registered of an environment."""
    if spec is None:
        return {}
    names = ("id", "max_episode_steps", "reward_threshold", "nondeterministic", "kwargs")
    return {name: said(getattr(spec, name, None)) for name in names}


def said(value: Any) -> Any:
    """What of a value JSON can say; only for people, so that the rest may be left out."""
    if isinstance(value, dict):
        return {str(key): said(item) for key, item in value.items()}
    try:
        return sayable(value)
    except Unsayable:
        return repr(value)


def first_sentence(cls: type) -> str:
    """What a class says of itself before it goes into detail."""
    lines = inspect.cleandoc(cls.__dict__.get("__doc__") or "").splitlines()
    return next((line.strip() for line in lines if line.strip() and not line.startswith("#")), "")[:300]
