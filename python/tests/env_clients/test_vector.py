"""Many sessions together, over one connection and over many."""

from __future__ import annotations

from typing import Any

import pytest

from hothouse.env import EnvError, StepResult, VectorClient


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


def test_all_or_none(plain: str) -> None:
    # There is room for three.
    with VectorClient(plain, 4) as envs:
        items = envs.reset_batch()
        assert [item.code for item in items if isinstance(item, EnvError)] == ["CAPACITY_REACHED"]
    with pytest.raises(ValueError, match="count is 0"):
        VectorClient(plain, 0)
