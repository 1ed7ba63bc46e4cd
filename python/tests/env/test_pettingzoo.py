"""Environments of PettingZoo, the real ones: in turn, and all at once."""

from __future__ import annotations

import json
from typing import Any

import pettingzoo
import pytest

from hothouse.env.codec import Invalid
from hothouse.env.session import EnvSession
from hothouse.env.spaces import space_of
from hothouse.env.target import TargetInvalid, app_of


def seen(said: bytes) -> dict[str, Any]:
    fields, reward, done, metadata = (json.loads(line) for line in said.split(b"\n"))
    assert metadata is None
    return {**fields, "reward": reward, "done": done}


def act(session: EnvSession, **action: Any) -> dict[str, Any]:
    return seen(session.step(json.dumps(action).encode()))


def test_agents_act_in_turn() -> None:
    app = app_of("pettingzoo:classic/tictactoe_v3")
    told = app.about()
    zoo = told["pettingzoo"]
    assert (told["name"], told["version"], zoo["api"], zoo["possible_agents"]) == (
        "tictactoe_v3",
        "3",
        "aec",
        ["player_1", "player_2"],
    )
    there = pettingzoo.make("aec", "classic/tictactoe_v3")
    there.reset(seed=1)
    assert space_of(zoo["action_spaces"]["player_1"]) == there.action_space("player_1")
    assert space_of(zoo["observation_spaces"]["player_2"]) == there.observation_space("player_2")
    session = app.session()
    given = seen(session.reset(b'{"seed": 1}'))
    # The first player takes the upper row.
    for place in (0, 3, 1, 4, 2):
        observation, reward, *_ = there.last()
        agent = there.agent_selection
        assert (given["agent_selection"], given["agents"], given["done"]) == (agent, ["player_1", "player_2"], False)
        assert list(given["observations"]) == [agent]
        mine = given["observations"][agent]
        assert mine["observation"] == observation["observation"].tolist()
        assert mine["action_mask"] == observation["action_mask"].tolist()
        assert given["reward"] == reward
        there.step(place)
        given = act(session, action=place)
    assert given["done"]
    assert given["rewards"] == {"player_1": 1, "player_2": -1} == there.rewards
    assert given["terminations"] == {"player_1": True, "player_2": True}
    with pytest.raises(Invalid) as caught:
        act(session, action=5)
    assert [(error["type"], error["loc"]) for error in caught.value.errors] == [("none_required", ["action"])]
    assert act(session, action=None)["agents"] == ["player_1"]
    last = act(session, action=None)
    assert (last["agents"], last["agent_selection"], last["done"]) == ([], None, True)


def test_an_action_of_the_wrong_kind_is_told() -> None:
    session = app_of("pettingzoo:classic/connect_four_v3").session()
    session.reset(b"")
    for action, kind in [(7, "less_than_equal"), (None, "int_type"), ("x", "int_parsing")]:
        with pytest.raises(Invalid) as caught:
            act(session, action=action)
        assert [(error["type"], error["loc"]) for error in caught.value.errors] == [(kind, ["action"])]
    assert json.loads(session.state())["step_count"] == 0


def test_agents_act_at_once() -> None:
    app = app_of("pettingzoo:classic/rps_v2?max_cycles=3")
    zoo = app.about()["pettingzoo"]
    assert (zoo["api"], zoo["possible_agents"]) == ("parallel", ["player_0", "player_1"])
    there = pettingzoo.make("parallel", "classic/rps_v2", max_cycles=3)
    observations, _ = there.reset(seed=1)
    session = app.session()
    given = seen(session.reset(b'{"seed": 1}'))
    assert given["observations"] == {agent: int(item) for agent, item in observations.items()}
    assert (given["rewards"], given["agents"], given["reward"]) == ({}, ["player_0", "player_1"], None)
    for moves in ((0, 1), (2, 1), (0, 0)):
        actions = dict(zip(["player_0", "player_1"], moves))
        observations, rewards, terminations, truncations, _ = there.step(dict(actions))
        given = act(session, actions=actions)
        assert given["observations"] == {agent: int(item) for agent, item in observations.items()}
        assert given["rewards"] == rewards
        assert (given["terminations"], given["truncations"]) == (terminations, truncations)
        assert given["done"] == (not there.agents)
        assert given["reward"] is None
    assert given["done"]


def test_each_agent_has_to_act() -> None:
    session = app_of("pettingzoo:classic/rps_v2").session()
    session.reset(b"")
    with pytest.raises(Invalid) as caught:
        act(session, actions={"player_0": 9, "nobody": 1})
    assert [(error["type"], error["loc"]) for error in caught.value.errors] == [
        ("less_than_equal", ["actions", "player_0"]),
        ("missing", ["actions", "player_1"]),
        ("extra_forbidden", ["actions", "nobody"]),
    ]
    with pytest.raises(Invalid) as caught:
        act(session, actions=3)
    assert [(error["type"], error["loc"]) for error in caught.value.errors] == [("dict_type", ["actions"])]


def test_the_form_may_be_chosen() -> None:
    app = app_of("pettingzoo:classic/rps_v2?api=aec")
    given = seen(app.session().reset(b""))
    assert given["agent_selection"] == "player_0"
    assert app.about()["schema"]["action"]["properties"]["action"]["anyOf"][-1] == {"type": "null"}
    with pytest.raises(TargetInvalid, match="has no form 'parallel'"):
        app_of("pettingzoo:classic/tictactoe_v3?api=parallel")


# It renders without being asked how, and says so.
@pytest.mark.filterwarnings("ignore:.*without specifying any render mode")
def test_a_butterfly_of_pictures() -> None:
    app = app_of("pettingzoo:butterfly/cooperative_pong_v6?max_cycles=2")
    session = app.session()
    given = seen(session.reset(b'{"seed": 1}'))
    pixels = given["observations"]["paddle_0"]
    assert len(pixels) > 100
    assert len(pixels[0][0]) == 3
    given = act(session, actions={agent: 0 for agent in given["agents"]})
    assert set(given["rewards"]) == {"paddle_0", "paddle_1"}
