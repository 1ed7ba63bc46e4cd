"""Environments of gymnasium, the real ones."""

from __future__ import annotations

import json
from typing import Any

import gymnasium
import numpy as np
import pytest

from hothouse.env.codec import Invalid
from hothouse.env.session import EnvSession, restored
from hothouse.env.spaces import space_of
from hothouse.env.target import app_of


def seen(said: bytes) -> tuple[dict[str, Any], Any, bool]:
    fields, reward, done, metadata = (json.loads(line) for line in said.split(b"\n"))
    assert metadata is None
    return fields, reward, done


@pytest.mark.parametrize(
    "name", ["CartPole-v1", "Pendulum-v1", "MountainCar-v0", "Acrobot-v1", "FrozenLake-v1", "Taxi-v4", "Blackjack-v1"]
)
def test_an_episode_is_that_of_gymnasium(name: str) -> None:
    app = app_of(f"gym:{name}")
    session = app.session()
    there = gymnasium.make(name)
    there.action_space.seed(5)
    observation, info = there.reset(seed=3)
    fields, reward, done = seen(session.reset(b'{"seed": 3}'))
    spaces = app.about()["gymnasium"]
    space = space_of(json.loads(json.dumps(spaces["observation_space"])))
    assert space == there.observation_space
    assert space_of(spaces["action_space"]) == there.action_space
    for step in range(60):
        assert np.array_equal(np.asarray(fields["observation"], space.dtype), np.asarray(observation, space.dtype))
        assert ("info" in fields) == bool(info), step
        if done:
            break
        action = there.action_space.sample()
        observation, expected, terminated, truncated, info = there.step(action)
        said = session.step(json.dumps({"action": np.asarray(action).tolist()}).encode())
        fields, reward, done = seen(said)
        assert (reward, fields["terminated"], fields["truncated"]) == (float(expected), terminated, truncated)
        assert done == (terminated or truncated)
        assert type(reward) is float
        state = json.loads(session.state())
        assert (state["step_count"], len(state["episode_id"])) == (step + 1, 36)
    session.close()
    there.close()


def test_the_greeting_says_all_that_a_client_needs() -> None:
    about = app_of("gym:CartPole-v1").about()
    assert (about["name"], about["class"], about["version"], about["checkpoints"]) == (
        "CartPole-v1",
        "CartPoleEnv",
        "1",
        True,
    )
    assert about["description"].startswith("This environment corresponds to the version of the cart-pole problem")
    told = about["gymnasium"]
    assert told["action_space"] == {"type": "Discrete", "n": 2, "start": 0, "dtype": "int64"}
    assert told["observation_space"]["low"][1] == "-inf"
    assert told["spec"] == {
        "id": "CartPole-v1",
        "max_episode_steps": 500,
        "reward_threshold": 475.0,
        "nondeterministic": False,
        "kwargs": {},
    }
    action = about["schema"]["action"]["properties"]["action"]
    assert action["x-gymnasium-space"] == told["action_space"]
    assert (action["minimum"], action["maximum"]) == (0, 1)
    assert about["schema"]["observation"]["properties"]["observation"]["minItems"] == 4
    json.dumps(about, allow_nan=False)


def test_arguments_stand_behind_the_name() -> None:
    app = app_of("gym:FrozenLake-v1?is_slippery=false&map_name=8x8&desc=null&max_episode_steps=2")
    assert app.about()["gymnasium"]["observation_space"]["n"] == 64
    session = app.session()
    session.reset(b"")
    for action in (2, 1):
        fields, _, done = seen(session.step(b'{"action": %d}' % action))
    assert (fields["observation"], fields["truncated"], done) == (9, True, True)


@pytest.mark.parametrize(
    ("action", "kind", "place"),
    [
        ({"action": 2}, "less_than_equal", ["action"]),
        ({"action": [1]}, "int_type", ["action"]),
        ({}, "missing", ["action"]),
        ({"action": 1, "more": 1}, "extra_forbidden", ["more"]),
        ({"action": 1, "metadata": 1}, "dict_type", ["metadata"]),
        ([], "dict_type", []),
    ],
    ids=str,
)
def test_an_action_that_does_not_fit_is_told_by_field(action: Any, kind: str, place: list[Any]) -> None:
    session = app_of("gym:CartPole-v1").session()
    session.reset(b"")
    with pytest.raises(Invalid) as caught:
        session.step(json.dumps(action).encode())
    assert [(error["type"], error["loc"]) for error in json.loads(caught.value.text)] == [(kind, place)]
    assert json.loads(session.state())["step_count"] == 0


def steps(session: EnvSession, count: int) -> list[bytes]:
    return [session.step(b'{"action": %d}' % (step % 2)) for step in range(count)]


@pytest.mark.parametrize("name", ["CartPole-v1", "FrozenLake-v1"])
def test_an_episode_is_kept_with_its_random_numbers(name: str) -> None:
    app = app_of(f"gym:{name}")
    session = app.session()
    session.reset(b'{"seed": 1, "episode_id": "ep"}')
    steps(session, 2)
    kept = session.checkpoint()
    expected = steps(session, 2)
    for _ in range(2):
        again = restored(app, kept)
        assert steps(again, 2) == expected
        assert json.loads(again.state()) == {"episode_id": "ep", "step_count": 4}


def test_sessions_without_a_seed_differ() -> None:
    app = app_of("gym:CartPole-v1")
    first, second = app.session().reset(b""), app.session().reset(b"")
    assert first != second
    assert app.session().reset(b'{"seed": 1}') == app.session().reset(b'{"seed": 1, "unknown": 2}')
