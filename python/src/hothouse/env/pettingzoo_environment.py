"""Environments of PettingZoo: `pettingzoo:classic/tictactoe_v3`, with arguments behind `?` as in `gym:`.

One with a parallel form is served in that: an action is `{"actions": {agent: value}}` for each agent there is, an
observation `{"observations", "rewards", "terminations", "truncations", "infos"}`, each by agent, and `"agents"`, those
that go on. Its `reward` is null, for each agent has one of its own; `done` says that no agent goes on.

Any other, and any with `?api=aec`, is served turn by turn: an action is `{"action": value}` of the agent whose turn it
is, `{"action": null}` once that agent is at its end. An observation has the same fields, and `"agent_selection"`, whose
turn it is; only that agent's observation is in it. `rewards` are those of the last step, `reward` is what the agent
whose turn it is has got since its own last step; `done` says that all agents are at their ends.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import uuid
import warnings
from typing import Any, Callable, Optional

import pettingzoo

from .app import App
from .codec import Invalid, codec_of
from .environment import Environment
from .gymnasium_environment import (
    ANY_METADATA,
    FieldCodec,
    field_schema,
    first_sentence,
    object_schema,
    parted,
    said,
)
from .models import State
from .scalars import WRONG, Check, Errors, wrong
from .spaces import described
from .target import TargetInvalid
from .validation import placed
from .values import Arrays, check_of_space, checked_object, plain_of_space

PARALLEL, TURNS = "parallel", "aec"
BY_AGENT = ("observations", "rewards", "terminations", "truncations", "infos")


def _as_it_is(value: Any, errors: Errors) -> Any:
    return value


class _Zoo(Environment[Any, dict[str, Any], dict[str, Any]]):
    """What both forms have in common."""

    def __init__(self, make: Callable[[], Any]) -> None:
        super().__init__()
        self.env: Any = make()
        self._checks: dict[Any, Check] = {}
        self._plains: dict[Any, Callable[[Any], Any]] = {}
        self._arrays = Arrays.LISTS
        self._episode_id: Optional[str] = None
        self._step_count = 0

    def pack_arrays(self) -> None:
        """Larger arrays are sent packed from now on."""
        self._arrays = Arrays.PACKED
        self._plains.clear()

    def _check(self, agent: Any) -> Check:
        check = self._checks.get(agent)
        if check is None:
            check = self._checks[agent] = check_of_space(self.env.action_space(agent))
        return check

    def _plain(self, agent: Any, observation: Any) -> Any:
        plain = self._plains.get(agent)
        if plain is None:
            plain = self._plains[agent] = plain_of_space(self.env.observation_space(agent), self._arrays)
        return None if observation is None else plain(observation)

    @property
    def state(self) -> dict[str, Any]:
        """How far the episode is."""
        return {"episode_id": self._episode_id, "step_count": self._step_count}

    def close(self) -> None:
        """Closes it."""
        self.env.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_checks": {}, "_plains": {}}


class ParallelEnvironment(_Zoo):
    """All agents act at once."""

    def reset(  # type: ignore[override]
        self,
        seed: Optional[int] = None,
        episode_id: Optional[str] = None,
        options: Optional[dict[str, Any]] = None,
    ) -> dict[str, Any]:
        """Begins an episode."""
        self._episode_id, self._step_count = episode_id or str(uuid.uuid4()), 0
        given = self.env.reset(seed=seed, options=options)
        observations, infos = given if isinstance(given, tuple) else (given, {})
        return self._seen(observations, {}, {}, {}, infos)

    def step(self, action: Any) -> dict[str, Any]:  # type: ignore[override]
        """Takes an action of each agent there is."""
        errors: Errors = []
        agents = {str(agent): agent for agent in self.env.agents}
        checks = {name: self._check(agent) for name, agent in agents.items()}
        made = placed(lambda value, found: checked_object(value, checks, found), action, errors, "actions")
        if made is WRONG:
            raise Invalid(errors)
        given = self.env.step({agents[name]: value for name, value in made.items()})
        self._step_count += 1
        return self._seen(*given)

    def _seen(
        self,
        observations: dict[Any, Any],
        rewards: dict[Any, Any],
        terminations: dict[Any, Any],
        truncations: dict[Any, Any],
        infos: dict[Any, Any],
    ) -> dict[str, Any]:
        return {
            "observations": {str(agent): self._plain(agent, seen) for agent, seen in observations.items()},
            "rewards": named(rewards),
            "terminations": named(terminations),
            "truncations": named(truncations),
            "infos": named(infos),
            "agents": [str(agent) for agent in self.env.agents],
            "done": not self.env.agents,
        }


class TurnsEnvironment(_Zoo):
    """The agents act in turn."""

    def reset(  # type: ignore[override]
        self,
        seed: Optional[int] = None,
        episode_id: Optional[str] = None,
        options: Optional[dict[str, Any]] = None,
    ) -> dict[str, Any]:
        """Begins an episode."""
        self._episode_id, self._step_count = episode_id or str(uuid.uuid4()), 0
        self.env.reset(seed=seed, options=options)
        return self._seen()

    def step(self, action: Any) -> dict[str, Any]:  # type: ignore[override]
        """Takes an action of the agent whose turn it is."""
        errors: Errors = []
        agent = self.env.agent_selection
        check = _nothing_more if self._is_at_end(agent) else self._check(agent)
        made = placed(check, action, errors, "action")
        if made is WRONG:
            raise Invalid(errors)
        self.env.step(made)
        self._step_count += 1
        return self._seen()

    def _is_at_end(self, agent: Any) -> bool:
        return bool(self.env.terminations.get(agent, True) or self.env.truncations.get(agent, True))

    def _seen(self) -> dict[str, Any]:
        env = self.env
        agents = list(env.agents)
        seen: dict[str, Any] = {
            "rewards": named(env.rewards),
            "terminations": named(env.terminations),
            "truncations": named(env.truncations),
            "infos": named(env.infos),
            "agents": [str(agent) for agent in agents],
            "done": all(self._is_at_end(agent) for agent in agents),
        }
        if not agents:
            return {"observations": {}, **seen, "agent_selection": None}
        observation, reward, _, _, _ = env.last()
        agent = env.agent_selection
        return {
            "observations": {str(agent): self._plain(agent, observation)},
            **seen,
            "agent_selection": str(agent),
            "reward": reward,
        }


def _nothing_more(value: Any, errors: Errors) -> Any:
    if value is not None:
        message = "Input should be None: the agent whose turn it is has come to its end"
        return wrong(errors, "none_required", message, value)
    return None


def named(by_agent: dict[Any, Any]) -> dict[str, Any]:
    """The same, with the agents' names as texts."""
    return {str(agent): value for agent, value in by_agent.items()}


def maker(family: str, name: str, api: Optional[str]) -> tuple[str, Callable[..., Any]]:
    """The form in which an environment is served, and what makes it."""
    ident = f"{family}/{name}"
    registries = {form: getattr(pettingzoo, f"{form}_registry", {}) for form in (PARALLEL, TURNS)}
    forms = [form for form in (PARALLEL, TURNS) if _registered(ident) in registries[form]]
    if forms:
        form = _chosen(ident, forms, api)
        return form, functools.partial(pettingzoo.make, form, ident)
    module = _module(family, name)
    entries = {PARALLEL: "parallel_env", TURNS: "env"}
    form = _chosen(ident, [form for form, entry in entries.items() if hasattr(module, entry)], api)
    entry: Callable[..., Any] = getattr(module, entries[form])
    return form, entry


def _registered(ident: str) -> str:
    """An environment's name as the registry has it: with a hyphen before its version."""
    head, _, version = ident.rpartition("_v")
    return f"{head}-v{version}" if head and version.isdigit() else ident


def _chosen(ident: str, forms: list[str], api: Optional[str]) -> str:
    if not forms or (api is not None and api not in forms):
        raise TargetInvalid(f"{ident} has no form {api!r}; it has {forms}")
    return api if api is not None else forms[0]


def _module(family: str, name: str) -> Any:
    """The module of an environment that is in no registry: in PettingZoo, or in a package of its own."""
    for package in (f"pettingzoo.{family}", family, f"{family}2"):
        try:
            found = importlib.util.find_spec(f"{package}.{name}")
        except ModuleNotFoundError:
            continue
        if found is not None:
            with warnings.catch_warnings():
                # That there is a registry now.
                warnings.simplefilter("ignore", DeprecationWarning)
                return importlib.import_module(f"{package}.{name}")
    raise TargetInvalid(f"there is no environment {family}/{name}: neither in pettingzoo, nor in a package {family}")


def app_of_pettingzoo(target: str) -> App:
    """The app of an environment of PettingZoo."""
    path, kwargs = parted(target)
    family, _, name = path.partition("/")
    if not family or not name:
        raise TargetInvalid(f"pettingzoo:{target} is not pettingzoo:family/name_vN")
    form, make = maker(family, name, kwargs.pop("api", None))
    make = functools.partial(make, **kwargs)
    cls: type[_Zoo] = ParallelEnvironment if form == PARALLEL else TurnsEnvironment
    trial = make()
    try:
        if not hasattr(trial, "possible_agents"):
            trial.reset()
        agents = list(getattr(trial, "possible_agents", None) or trial.agents)
        actions = {str(agent): trial.action_space(agent) for agent in agents}
        observations = {str(agent): trial.observation_space(agent) for agent in agents}
        about = {
            "class": type(trial.unwrapped).__name__,
            "version": name.rpartition("_v")[2] or "0",
            "description": first_sentence(type(trial.unwrapped)) or f"{name} of PettingZoo",
            "pettingzoo": {
                "api": form,
                "possible_agents": list(actions),
                "action_spaces": {agent: described(space) for agent, space in actions.items()},
                "observation_spaces": {agent: described(space) for agent, space in observations.items()},
                "metadata": said(trial.metadata),
            },
        }
    finally:
        trial.close()
    if form == PARALLEL:
        properties = {agent: field_schema(space) for agent, space in actions.items()}
        by_agent = {"type": "object", "properties": properties, "additionalProperties": False}
        codec = FieldCodec("actions", _as_it_is, by_agent)
    else:
        codec = FieldCodec("action", _as_it_is, {"anyOf": [*distinct(actions), {"type": "null"}]})
    return App(
        functools.partial(cls, make),
        env_name=name,
        action_codec=codec,
        schemas={"observation": observation_schema(form, observations), "state": codec_of(State).schema()},
        about=about,
    )


def distinct(spaces: dict[str, Any]) -> list[dict[str, Any]]:
    """The schemas of spaces, each once."""
    schemas: list[dict[str, Any]] = []
    for space in spaces.values():
        schema = field_schema(space)
        if schema not in schemas:
            schemas.append(schema)
    return schemas


def observation_schema(form: str, spaces: dict[str, Any]) -> dict[str, Any]:
    """The schema of what all agents see."""
    anything: dict[str, Any] = {"type": "object", "additionalProperties": True}
    properties: dict[str, Any] = {name: anything for name in BY_AGENT}
    seen = {agent: field_schema(space) for agent, space in spaces.items()}
    properties["observations"] = {"type": "object", "properties": seen, "additionalProperties": False}
    properties["agents"] = {"type": "array", "items": {"type": "string"}}
    if form == TURNS:
        properties["agent_selection"] = {"anyOf": [{"type": "string"}, {"type": "null"}]}
    required = tuple(properties)
    properties["reward"] = {"anyOf": [{"type": "number"}, {"type": "null"}]}
    properties.update(done={"type": "boolean"}, metadata=ANY_METADATA)
    return object_schema("Observation", properties, required)
