"""Served environments of PettingZoo in which all agents act at once, as a `ParallelEnv`.

    from hothouse.env.pettingzoo import parallel_env

    env = parallel_env("pettingzoo:butterfly/pistonball_v6")  # served privately; or the URL of a server

Those whose agents act in turn are used with `GenericEnvClient`.
"""

from __future__ import annotations

from typing import Any, Optional

from pettingzoo import ParallelEnv

from .client import GenericEnvClient
from .errors import EnvError
from .gymnasium import SCHEMES, reset_arguments
from .spaces import space_of
from .spaces_told import TOLD, Told, schema_of_server


def parallel_env(url_or_name: str, *arguments: str, **settings: Any) -> RemoteParallelEnv:
    """An environment of a server, or one that is served privately. See `hothouse.env.gymnasium.make`."""
    settings.setdefault("packed_arrays", True)
    if url_or_name.startswith(SCHEMES):
        client = GenericEnvClient(url_or_name, **settings)
    else:
        client = GenericEnvClient.from_env(url_or_name, *arguments, **settings)
    try:
        return RemoteParallelEnv(client.connect(), told_by_agent(client.base_url))
    except BaseException:
        client.close()
        raise


def told_by_agent(base_url: str) -> dict[str, Told]:
    """The spaces of each agent. Raises `EnvError` where the environment has no parallel form."""
    url, schema = schema_of_server(base_url)
    try:
        actions = schema["action"]["properties"]["actions"]["properties"]
        seen = schema["observation"]["properties"]["observations"]["properties"]
        return {agent: Told(space_of(actions[agent][TOLD]), space_of(seen[agent][TOLD])) for agent in actions}
    except (KeyError, TypeError) as error:
        text = f"{url} tells of no agents that act at once; use GenericEnvClient for this environment"
        raise EnvError(text, "NOT_SUPPORTED") from error


class RemoteParallelEnv(ParallelEnv):  # type: ignore[misc]
    """One session of a served environment."""

    def __init__(self, client: GenericEnvClient, told: dict[str, Told]) -> None:
        self.metadata = {"render_modes": [], "name": client.base_url}
        self.render_mode = None
        self.client = client
        self.possible_agents = list(told)
        self.agents: list[str] = []
        self._told = told
        self.action_spaces = {agent: each.action_space for agent, each in told.items()}
        self.observation_spaces = {agent: each.observation_space for agent, each in told.items()}

    def action_space(self, agent: str) -> Any:
        """The same one each time."""
        return self.action_spaces[agent]

    def observation_space(self, agent: str) -> Any:
        """The same one each time."""
        return self.observation_spaces[agent]

    def reset(
        self, seed: Optional[int] = None, options: Optional[dict[str, Any]] = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begins an episode."""
        seen = self.client.reset(**reset_arguments(seed, options)).observation
        self.agents = seen["agents"]
        return self._observations(seen), self._infos(seen)

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        """Acts, for each agent there is."""
        said = {agent: self._told[agent].action(action)["action"] for agent, action in actions.items()}
        seen = self.client.step({"actions": said}).observation
        self.agents = seen["agents"]
        told = self._observations(seen)
        return told, seen["rewards"], seen["terminations"], seen["truncations"], self._infos(seen)

    def _observations(self, seen: dict[str, Any]) -> dict[str, Any]:
        return {agent: self._told[agent].observation(value) for agent, value in seen["observations"].items()}

    def _infos(self, seen: dict[str, Any]) -> dict[str, Any]:
        return {agent: seen["infos"].get(agent, {}) for agent in seen["observations"]}

    def close(self) -> None:
        """Ends the session, and the server where `parallel_env` started it."""
        self.client.close()
