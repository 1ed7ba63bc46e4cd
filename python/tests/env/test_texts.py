"""Whatever an environment gives becomes JSON, or it is said where it cannot."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import pathlib
import uuid
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Any, Callable

import numpy as np
import pytest

from hothouse.env import texts
from hothouse.env.models import Observation
from hothouse.env.observations import observation
from hothouse.env.texts import Unsayable, scalar, text


class Colour(enum.Enum):
    RED = "red"


class Loud(str):
    pass


@dataclass
class Point:
    x: Any


class Anything(Observation):
    value: Any = None


SAID: list[tuple[Any, str]] = [
    (None, "null"),
    (True, "true"),
    (10**30, str(10**30)),
    (1.0, "1.0"),
    (float("nan"), "null"),
    ([float("inf"), 1.5, -float("inf")], "[null,1.5,null]"),
    ("é\u2713", '"é\u2713"'),
    ("a\ud800b", '"a\ufffdb"'),
    ({"k\udfff": 1}, '{"k\ufffd":1}'),
    ({1: "a", 2.5: "b", None: "c"}, '{"1":"a","2.5":"b","None":"c"}'),
    ((1, 2), "[1,2]"),
    (deque([1]), "[1]"),
    (range(3), "[0,1,2]"),
    (b"text", '"text"'),
    (Colour.RED, '"red"'),
    (Loud("x"), '"x"'),
    (Point([Point(1)]), '{"x":[{"x":1}]}'),
    (OrderedDict(a=1), '{"a":1}'),
    (np.float32(1.5), "1.5"),
    (np.int64(7), "7"),
    (np.bool_(True), "true"),
    (np.arange(4).reshape(2, 2), "[[0,1],[2,3]]"),
    (np.array([1.0, np.nan]), "[1.0,null]"),
    (np.array(3), "3"),
    ({"a": [np.float32(0.5), {"b": np.zeros(2, np.uint8)}]}, '{"a":[0.5,{"b":[0,0]}]}'),
    (np.array([{"a": np.int8(1)}], dtype=object), '[{"a":1}]'),
    (datetime.date(2024, 2, 29), '"2024-02-29"'),
    (datetime.datetime(2024, 2, 29, 1, 2, 3), '"2024-02-29T01:02:03"'),
    (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
    (decimal.Decimal("1.50"), '"1.50"'),
    (pathlib.PurePosixPath("/a/b"), '"/a/b"'),
]


@pytest.fixture(params=["with pydantic", "without"])
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "without":
        monkeypatch.setattr(texts, "_quick", texts._quick_standard)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("value", "said"), SAID, ids=[said for _, said in SAID])
def test_a_value_is_said(value: Any, said: str) -> None:
    wanted = json.loads(said)
    if isinstance(wanted, dict) and "None" in wanted:
        # Of a key that is nothing only that it is said.
        assert "c" in json.loads(text(value)).values()
        return
    assert text(value).decode() == said


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("value", "where"),
    [
        (object(), "observation.value"),
        ({"a": [1, object()]}, "observation.value.a[1]"),
        ({"a": {"b": lambda: 1}}, "observation.value.a.b"),
        ({object(): 1}, "observation.value"),
        (np.array([object()]), "observation.value[0]"),
    ],
    ids=str,
)
def test_what_cannot_be_said_is_named(value: Any, where: str) -> None:
    with pytest.raises(Unsayable) as caught:
        observation(Anything(value=value))
    assert caught.value.where == where


@pytest.mark.usefixtures("quick")
def test_what_contains_itself_has_an_end() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(Unsayable, match="or contains itself"):
        text(loop, "loop")


@pytest.mark.parametrize(
    ("reward", "said"),
    [
        (None, b"null"),
        (1, b"1"),
        (True, b"true"),
        (0.1 * 3, b"0.30000000000000004"),
        (-0.0, b"-0.0"),
        (float("nan"), b"null"),
        (np.float64(2.0), b"2.0"),
        (np.float32(0.5), b"0.5"),
        (np.int64(3), b"3"),
        (np.bool_(False), b"false"),
        (np.array([4.0]), b"4.0"),
    ],
    ids=str,
)
def test_a_reward_keeps_its_kind(reward: Any, said: bytes) -> None:
    assert scalar(reward, "reward") == said


@pytest.mark.parametrize("reward", ["1", [1, 2], {}, object()], ids=str)
def test_a_reward_is_a_number(reward: Any) -> None:
    with pytest.raises(Unsayable, match=r"^reward"):
        scalar(reward, "reward")


@pytest.mark.parametrize("make", [lambda: {"metadata": 3}, lambda: {"metadata": [1]}], ids=["number", "list"])
def test_metadata_is_an_object(make: Callable[[], Any]) -> None:
    with pytest.raises(Unsayable, match=r"^metadata"):
        observation(make())
