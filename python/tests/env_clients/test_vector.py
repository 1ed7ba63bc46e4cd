"""Many sessions together, over one connection and over many."""

from __future__ import annotations

from typing import Any

import pytest

from hothouse.env import EnvError, GenericEnvClient, StepResult, VectorClient


def observations(items: list[Any]) -> list[Any]:
    assert all(isinstance(item, StepResult) for item in items), items
    return [item.observation for item in items]


def test_one_connection_is_for_all(echo: str) -> None:
    with VectorClient(echo, 5) as envs:
        assert envs.multiplexed
        assert len(observations(envs.reset_batch())) == 5
        seen = observations(envs.step_batch([{"message": str(number)} for number in range(5)]))
        assert [each["echoed_message"] for each in seen] == ["0", "1", "2", "3", "4"]
        mixed = envs.step_batch([{"message": "a"}, None, {"wrong": 1}], sessions=[4, 0, 2])
        assert isinstance(mixed[2], EnvError)
        assert (mixed[2].code, mixed[2].errors[0]["loc"]) == ("VALIDATION_ERROR", ["message"])
        assert observations(mixed[:2])[0]["echoed_message"] == "a"
        assert [envs.state(session)["step_count"] for session in range(5)] == [0, 1, 1, 1, 2]
        with pytest.raises(ValueError, match="2 actions for 5 sessions"):
            envs.step_batch([None, None])


def test_a_server_that_knows_one_session_for_a_connection(plain: str) -> None:
    with VectorClient(plain, 3) as envs:
        assert not envs.multiplexed
        assert [each["val"] for each in observations(envs.reset_batch(seed=5))] == [5.0, 6.0, 7.0]
        mixed = envs.step_batch([{"cmd": "ok"}, {"cmd": "boom"}, None])
        assert [type(item) for item in mixed] == [StepResult, EnvError, StepResult]
        assert observations(envs.reset_batch([9], sessions=[2]))[0]["val"] == 9.0
        assert [envs.state(session)["last"] for session in range(3)] == ["ok", "boom", ""]


def test_copies_go_their_own_ways_and_a_step_is_taken_once(echo: str) -> None:
    with VectorClient(echo, 2) as envs:
        envs.reset_batch()
        envs.step(1, {"message": "one"}, step_id="a")
        again = envs.step(1, {"message": "one"}, step_id="a")
        assert again.observation["echoed_message"] == "one"
        assert envs.state(1)["step_count"] == 1
        with pytest.raises(EnvError, match="STEP_ID_REUSED"):
            envs.step(1, {"message": "two"}, step_id="a")
        assert envs.fork(1, 2) == [2, 3]
        assert envs.count == 4
        envs.step(2, {"message": "two"})
        assert [envs.state(session)["step_count"] for session in range(4)] == [0, 1, 2, 1]
        kept = envs.checkpoint(2)
        envs.step(2, {"message": "three"})
        envs.restore(0, kept)
        assert [envs.state(session)["step_count"] for session in range(4)] == [2, 1, 3, 1]
        assert len(envs.step_batch([{"message": "all"}] * 4)) == 4
        with pytest.raises(EnvError, match="UNKNOWN_CHECKPOINT"):
            envs.restore(0, "none")


def test_arrays_may_come_packed_where_the_server_can_do_that(echo: str, plain: str) -> None:
    for url in (echo, plain):
        with GenericEnvClient(url, packed_arrays=True) as env:
            env.reset()
            assert env.state()["step_count"] == 0
        with VectorClient(url, 2, packed_arrays=True) as envs:
            assert len(observations(envs.reset_batch())) == 2


def test_what_only_our_servers_can_do_says_so(plain: str) -> None:
    with VectorClient(plain, 1) as envs:
        envs.reset_batch()
        with pytest.raises(EnvError, match=r"does not speak hothouse\.env\.v1, which fork needs"):
            envs.fork(0)


def test_all_or_none(plain: str) -> None:
    # There is room for three.
    with VectorClient(plain, 4) as envs:
        items = envs.reset_batch()
        assert [item.code for item in items if isinstance(item, EnvError)] == ["CAPACITY_REACHED"]
    with pytest.raises(ValueError, match="count is 0"):
        VectorClient(plain, 0)
