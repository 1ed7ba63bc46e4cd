"""Agents that act at once, over the wire. Needs pettingzoo, and a package index to serve it."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pettingzoo
import pytest

from hothouse.env import EnvError
from hothouse.env.pettingzoo import parallel_env

from .conftest import EnvServer

pytestmark = pytest.mark.timeout(300)


def test_a_parallel_environment_is_as_it_is_here(serve: Callable[..., EnvServer]) -> None:
    remote = parallel_env(serve("pettingzoo:classic/rps_v2?max_cycles=30", "--with", "pygame-ce").url)
    local = pettingzoo.make("parallel", "classic/rps_v2", max_cycles=30)
    try:
        with warnings.catch_warnings():
            # What it imports warns of itself.
            warnings.simplefilter("ignore", DeprecationWarning)
            from pettingzoo.test import parallel_api_test

            parallel_api_test(remote, num_cycles=100)
        assert remote.possible_agents == local.possible_agents
        assert remote.reset(seed=1)[0] == local.reset(seed=1)[0]
        random = np.random.default_rng(0)
        while local.agents:
            actions = {agent: random.integers(0, 3) for agent in local.agents}
            assert remote.step(actions)[:4] == local.step(actions)[:4]
            assert remote.agents == local.agents
    finally:
        remote.close()


def test_one_without_agents(echo: str) -> None:
    with pytest.raises(EnvError, match="no agents that act at once"):
        parallel_env(echo)
