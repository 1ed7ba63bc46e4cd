"""The spaces of a served environment of gymnasium, from its schema, and what goes between them and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array

from .errors import EnvError
from .scalars import WRONG, Errors
from .spaces import space_of
from .values import check_of_space, plain_of_space

TOLD = "x-gymnasium-space"
WEB = {"ws": "http", "wss": "https"}


class Told:
    """The spaces of one session."""

    def __init__(self, action_space: Any, observation_space: Any) -> None:
        self.action_space = action_space
        self.observation_space = observation_space
        self._read = check_of_space(observation_space)
        self._plain = plain_of_space(action_space)

    def action(self, action: Any) -> dict[str, Any]:
        """An action as it is sent."""
        return {"action": self._plain(action)}

    def observation(self, value: Any) -> Any:
        """The sample of the observation space in what was sent."""
        errors: Errors = []
        sample = self._read(value, errors)
        if sample is WRONG:
            raise EnvError(f"the observation is not in {self.observation_space}", "BAD_ANSWER", errors)
        return sample

    def observations(self, values: Sequence[Any]) -> Any:
        """The samples of many, put together as gymnasium's vectors have them."""
        space = self.observation_space
        if isinstance(space, spaces.Box) and space.dtype.kind == "f":
            # All at once, which is what most environments are.
            try:
                samples = np.array(values, space.dtype)
            except (ValueError, TypeError):
                samples = None
            if samples is not None and samples.shape == (len(values), *space.shape):
                return samples
        empty: Any = create_empty_array(space, len(values), np.zeros)
        return concatenate(space, [self.observation(value) for value in values], empty)


def schema_of_server(base_url: str, timeout_s: float = 60.0) -> tuple[str, Any]:
    """Where a server's schema is, and the schema."""
    scheme, _, rest = base_url.rstrip("/").partition("://")
    url = f"{WEB.get(scheme, scheme)}://{rest}/schema"
    try:
        answer = httpx.get(url, timeout=timeout_s).raise_for_status()
        return url, answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise EnvError(f"cannot read {url}: {error}", "CONNECTION_FAILED") from error


def told_of(base_url: str) -> Told:
    """Asks a server for the spaces of its environment. Raises `EnvError` where it is none of gymnasium."""
    url, schema = schema_of_server(base_url)
    told = {}
    for part in ("action", "observation"):
        try:
            told[part] = space_of(schema[part]["properties"][part][TOLD])
        except (KeyError, TypeError) as error:
            text = f"{url} tells of no space of gymnasium for its {part}s; use GenericEnvClient for this environment"
            raise EnvError(text, "NOT_SUPPORTED") from error
    return Told(told["action"], told["observation"])
