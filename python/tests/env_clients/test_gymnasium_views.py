"""Environments of gymnasium over the wire are as they are without. Needs gymnasium, and a package index to serve it."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from hothouse.env import EnvError
from hothouse.env.gymnasium import make, make_vec

EXAMPLE = Path(__file__).parents[3] / "examples" / "cartpole" / "train.py"
# The first test waits until the server has installed gymnasium.
pytestmark = pytest.mark.timeout(300)


def test_the_checker_of_gymnasium_finds_nothing(cartpole: str) -> None:
    env = make(cartpole)
    try:
        with warnings.catch_warnings():
            # Of the environment itself, whose speeds have no bounds.
            warnings.filterwarnings("ignore", ".*Box observation space m.*value is.*infinity")
            check_env(env, skip_render_check=True)
    finally:
        env.close()


def test_one_is_as_it_is_here(cartpole: str) -> None:
    remote, local = make(cartpole), gymnasium.make("CartPole-v1")
    assert (remote.action_space, remote.observation_space) == (local.action_space, local.observation_space)
    for seed in (3, None):
        seen, info = remote.reset(seed=seed)
        assert np.array_equal(seen, local.reset(seed=seed)[0])
        assert (info, seen.dtype) == ({}, np.float32)
        ended = False
        while not ended:
            ours, theirs = remote.step(np.int64(1)), local.step(1)
            assert np.array_equal(ours[0], theirs[0])
            assert ours[1:] == theirs[1:]
            ended = ours[2] or ours[3]
    remote.close()
    local.close()


def test_many_are_as_they_are_here(cartpole: str) -> None:
    remote, local = make_vec(cartpole, 8), gymnasium.make_vec("CartPole-v1", 8, vectorization_mode="sync")
    assert remote.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert (remote.action_space, remote.observation_space) == (local.action_space, local.observation_space)
    assert np.array_equal(remote.reset(seed=3)[0], local.reset(seed=3)[0])
    random = np.random.default_rng(0)
    for _ in range(100):
        actions = random.integers(0, 2, 8)
        for ours, theirs in zip(remote.step(actions)[:4], local.step(actions)[:4]):
            assert np.array_equal(ours, theirs)
            assert ours.dtype == theirs.dtype
    mask = np.arange(8) == 3
    ours, _ = remote.reset(seed=9, options={"reset_mask": mask})
    assert np.array_equal(ours, local.reset(seed=9, options={"reset_mask": mask})[0])
    remote.close()
    local.close()


def test_one_that_is_none_of_gymnasium(echo: str) -> None:
    with pytest.raises(EnvError, match="no space of gymnasium") as caught:
        make(echo)
    assert caught.value.code == "NOT_SUPPORTED"


def test_an_action_that_is_none(cartpole: str) -> None:
    envs = make_vec(cartpole, 2)
    envs.reset()
    with pytest.raises(EnvError, match="environment 1: "):
        envs.step(np.array([0, 5]))
    envs.close()


def test_the_example_learns_the_same_each_time(cartpole: str) -> None:
    command = [sys.executable, "-W", "error", str(EXAMPLE), "--env", cartpole]
    tables = []
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, timeout=140, check=False)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        tables.append(done.stdout.partition("solved")[0])
        assert "solved: mean return" in done.stdout
    assert tables[0] == tables[1]
    done = subprocess.run([*command, "--generations", "1"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "not solved" in done.stdout
