"""Served environments of gymnasium as what they are: `make` and `make_vec`, over the wire.

    from hothouse.env.gymnasium import make, make_vec

    envs = make_vec("gym:CartPole-v1", 16)       # served privately; or the URL of a server
    observations, infos = envs.reset(seed=1)

Needs `gymnasium` and `numpy` on this side for the spaces, and not what the environment itself needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional, Union

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, iterate

from .client import GenericEnvClient
from .errors import EnvError
from .results import StepResult
from .spaces_told import Told, told_of
from .vector import VectorClient

SCHEMES = ("http://", "https://", "ws://", "wss://")


def make(url_or_name: str, *arguments: str, **settings: Any) -> RemoteEnv:
    """An environment of a server, or one served privately, such as `gym:CartPole-v1`. Larger arrays come packed.

    `arguments` go to `hothouse env serve`, `settings` to `GenericEnvClient`.
    """
    settings.setdefault("packed_arrays", True)
    if url_or_name.startswith(SCHEMES):
        client = GenericEnvClient(url_or_name, **settings)
    else:
        client = GenericEnvClient.from_env(url_or_name, *arguments, **settings)
    try:
        return RemoteEnv(client.connect(), told_of(client.base_url))
    except BaseException:
        client.close()
        raise


def make_vec(url_or_name: str, num_envs: int, *arguments: str, **settings: Any) -> RemoteVectorEnv:
    """As `make`, but for `num_envs` sessions that are stepped together. `settings` go to `VectorClient`."""
    settings.setdefault("packed_arrays", True)
    if url_or_name.startswith(SCHEMES):
        client = VectorClient(url_or_name, num_envs, **settings)
    else:
        client = VectorClient.from_env(url_or_name, num_envs, *arguments, **settings)
    try:
        return RemoteVectorEnv(client, told_of(client.base_url))
    except BaseException:
        client.close()
        raise


class RemoteEnv(gymnasium.Env[Any, Any]):
    """One session of a served environment."""

    def __init__(self, client: GenericEnvClient, told: Told) -> None:
        self.metadata = {"render_modes": []}
        self.client = client
        self.action_space = told.action_space
        self.observation_space = told.observation_space
        self._told = told

    def reset(
        self, *, seed: Optional[int] = None, options: Optional[dict[str, Any]] = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begins an episode."""
        super().reset(seed=seed)
        result = self.client.reset(**reset_arguments(seed, options))
        return self._told.observation(result.observation["observation"]), info_of(result)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Acts."""
        result = self.client.step(self._told.action(action))
        seen = result.observation
        observation = self._told.observation(seen["observation"])
        return observation, float(result.reward or 0.0), seen["terminated"], seen["truncated"], info_of(result)

    def close(self) -> None:
        """Ends the session, and the server where `make` started it."""
        self.client.close()


class RemoteVectorEnv(VectorEnv[Any, Any, Any]):
    """Sessions of a served environment. An episode that ended begins anew with the next step, which acts in no way."""

    def __init__(self, client: VectorClient, told: Told) -> None:
        self.metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}
        self.client = client
        self.num_envs = client.count
        self.single_action_space = told.action_space
        self.single_observation_space = told.observation_space
        self.action_space = batch_space(told.action_space, self.num_envs)
        self.observation_space = batch_space(told.observation_space, self.num_envs)
        self._told = told
        self._ended = np.zeros(self.num_envs, dtype=np.bool_)
        self._seen: list[Any] = [None] * self.num_envs

    def reset(
        self,
        *,
        seed: Union[int, Sequence[Optional[int]], None] = None,
        options: Optional[dict[str, Any]] = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Begins an episode in all, or in those of `options["reset_mask"]`. A seed is counted up."""
        options = dict(options or {})
        mask = options.pop("reset_mask", None)
        chosen = range(self.num_envs) if mask is None else [int(index) for index in np.flatnonzero(mask)]
        if isinstance(seed, (int, np.integer)):
            seed = [int(seed) + index for index in range(self.num_envs)]
        if seed is not None:
            if len(seed) != self.num_envs:
                raise ValueError(f"there are {len(seed)} seeds for {self.num_envs} environments")
            seed = [seed[index] for index in chosen]
        items = self.client.reset_batch(seed, chosen, **reset_arguments(None, options))
        infos: dict[str, Any] = {}
        for index, item in zip(chosen, items):
            result = sure(item, index)
            self._seen[index] = result.observation["observation"]
            self._ended[index] = False
            infos = self._add_info(infos, info_of(result), index)
        return self._told.observations(self._seen), infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Acts in all but those that ended, which begin anew."""
        asked = [
            None if ended else self._told.action(action)
            for ended, action in zip(self._ended, iterate(self.action_space, actions))
        ]
        items = self.client.step_batch(asked)
        rewards = np.zeros(self.num_envs, dtype=np.float64)
        terminated = np.zeros(self.num_envs, dtype=np.bool_)
        truncated = np.zeros(self.num_envs, dtype=np.bool_)
        infos: dict[str, Any] = {}
        for index, item in enumerate(items):
            result = sure(item, index)
            seen = result.observation
            self._seen[index] = seen["observation"]
            rewards[index] = result.reward or 0.0
            terminated[index], truncated[index] = seen["terminated"], seen["truncated"]
            infos = self._add_info(infos, info_of(result), index)
        self._ended = terminated | truncated
        return self._told.observations(self._seen), rewards, terminated, truncated, infos

    def close_extras(self, **kwargs: Any) -> None:
        """Ends the sessions, and the server where `make_vec` started it."""
        self.client.close()


def reset_arguments(seed: Optional[int], options: Optional[dict[str, Any]]) -> dict[str, Any]:
    """What a reset sends: what was not said is left out."""
    arguments: dict[str, Any] = {}
    if seed is not None:
        arguments["seed"] = int(seed)
    if options:
        arguments["options"] = options
    return arguments


def info_of(result: StepResult[dict[str, Any]]) -> dict[str, Any]:
    """What gymnasium calls info."""
    info: dict[str, Any] = result.observation.get("info") or {}
    return info


def sure(item: Union[StepResult[dict[str, Any]], EnvError], index: int) -> StepResult[dict[str, Any]]:
    """The result, when it is no error."""
    if isinstance(item, EnvError):
        raise EnvError(f"environment {index}: {item.message}", item.code, item.errors, item.data) from item
    return item
