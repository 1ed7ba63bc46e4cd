"""Without pydantic the same is taken, the same is refused, and in the same words."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from typing import Annotated, Any, Literal, Optional, Union

import pytest
from pydantic import Field

from hothouse.env.codec import Codec, Invalid

from .pairs import twins, values_of


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.5


@dataclasses.dataclass
class Path:
    """A way through points."""

    points: list[Point]
    name: Optional[str] = None


TYPES: list[Any] = [
    bool,
    int,
    float,
    str,
    Any,
    list,
    dict,
    Optional[int],
    Optional[str],
    list[int],
    list[list[float]],
    list[Optional[bool]],
    dict[str, int],
    dict[int, str],
    dict[str, list[int]],
    tuple[int, str],
    tuple[int, ...],
    set[int],
    frozenset[str],
    Literal["a", "b"],
    Literal["one"],
    Literal[1, 2],
    Colour,
    Level,
    Union[int, str],
    Union[str, int],
    Union[int, float],
    Union[bool, int, float, None],
    Union[list[int], str],
    Union[Literal["x"], int],
    Optional[list[str]],
    Point,
    Path,
    list[Point],
    Optional[Point],
    dict[str, Point],
    Union[Point, int],
]
VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    2,
    -7,
    10**20,
    0.0,
    1.0,
    1.5,
    -2.0,
    1e300,
    "",
    "a",
    "b",
    "x",
    "red",
    "7",
    " 7 ",
    "+3",
    "1_000",
    "1.0",
    "1.5",
    "1.",
    "-0",
    "0x10",
    "1e3",
    "nan",
    "true",
    "Yes",
    "off",
    "t",
    "é",
    [],
    [1],
    ["1", 2],
    [1, "a"],
    [1.5],
    [[1], [2.5]],
    [None, True],
    [1, 2, 3],
    [1, 1],
    ["a", "a"],
    {},
    {"a": 1},
    {"a": "x"},
    {"1": "x"},
    {"a": [1, "2"]},
    {"a": ["x"]},
    {"x": 1},
    {"x": "2", "y": "3"},
    {"y": 1},
    {"x": 1, "z": 2},
    {"points": [{"x": 1}, {"x": "q"}]},
    {"points": [{"x": 1}], "name": 5},
    {"points": [], "name": None},
    [{"x": 1}, {}],
    {"p": {"x": 1}},
    {"p": 1},
]


def outcome(codec: Codec, given: Any) -> Any:
    try:
        made = values_of(codec.decode(json.dumps(given).encode()))
    except Invalid as error:
        return "refused", error.errors and json.loads(error.text)
    return "taken", made


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, float) and isinstance(theirs, float) and math.isnan(ours) and math.isnan(theirs):
        return True
    if isinstance(ours, (list, tuple)) and type(ours) is type(theirs) and len(ours) == len(theirs):
        return all(same(mine, other) for mine, other in zip(ours, theirs))
    if isinstance(ours, dict) and isinstance(theirs, dict) and list(ours) == list(theirs):
        return all(same(ours[key], theirs[key]) for key in ours)
    return bool(ours == theirs) and type(ours) is type(theirs)


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_every_value_comes_to_the_same(kind: Any) -> None:
    plain, model = twins("Given", {"f": kind})
    for value in VALUES:
        for given in ({"f": value}, {"f": value, "extra": 1, "metadata": {"a": 1}}):
            ours, theirs = outcome(plain, given), outcome(model, given)
            assert same(ours, theirs), f"{kind} of {given}: {ours} is not {theirs}"


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_every_type_has_the_same_schema(kind: Any) -> None:
    plain, model = twins("Given", {"f": kind, "second_one": (kind, None)})
    assert plain.schema() == model.schema()


BOUNDED: dict[str, Any] = {
    "positive": Annotated[int, Field(gt=0, description="at least one")],
    "count": (int, dataclasses.field(default=0, metadata={"ge": 0, "le": 10, "description": "how many"})),
    "share": (float, dataclasses.field(default=0.5, metadata={"gt": 0, "lt": 1, "title": "A share"})),
    "name": (str, dataclasses.field(default="x", metadata={"min_length": 1, "max_length": 3})),
    "code": (str, dataclasses.field(default="a", metadata={"pattern": "^[a-z]$"})),
    "even": (int, dataclasses.field(default=2, metadata={"multiple_of": 2})),
    "items": (list[int], dataclasses.field(default_factory=list, metadata={"min_length": 1, "max_length": 2})),
    "perhaps": (Optional[int], dataclasses.field(default=None, metadata={"ge": 3})),
    "lists": (list[str], dataclasses.field(default_factory=lambda: ["a"])),
}


@pytest.mark.parametrize(
    "given",
    [
        {"positive": 1},
        {},
        {"positive": 0},
        {"positive": "1", "count": -1},
        {"positive": 1, "count": "11"},
        {"positive": 1, "share": 0},
        {"positive": 1, "share": 1},
        {"positive": 1, "name": ""},
        {"positive": 1, "name": "abcd"},
        {"positive": 1, "code": "AB"},
        {"positive": 1, "even": 3},
        {"positive": 1, "items": []},
        {"positive": 1, "items": [1, 2, 3]},
        {"positive": 1, "items": ["x"]},
        {"positive": 1, "perhaps": 2},
        {"positive": 1, "perhaps": None},
        [],
        "text",
        None,
        {"positive": 1, "metadata": 5},
        {"positive": 1, "metadata": None, "x": 1, "y": 2},
    ],
    ids=str,
)
def test_what_a_field_asks_for_beside_its_type(given: Any) -> None:
    plain, model = twins("Bounded", BOUNDED)
    assert same(outcome(plain, given), outcome(model, given)), (outcome(plain, given), outcome(model, given))


def test_the_schema_says_what_fields_ask_for() -> None:
    plain, model = twins("Bounded", BOUNDED)
    assert plain.schema() == model.schema()


@pytest.mark.parametrize("base", ["Action", "Observation", "State"])
def test_the_bases_are_the_same(base: str) -> None:
    plain, model = twins("Derived", {"a": int, "b": (str, "x")}, base)
    assert plain.schema() == model.schema()
    for given in ({"a": 1}, {"a": 1, "more": 2}, {"a": 1, "done": 1, "reward": "x"}, {"a": 1, "step_count": -1}):
        ours, theirs = outcome(plain, given), outcome(model, given)
        assert ours[0] == theirs[0], (ours, theirs)
        assert ours[0] == "taken" or same(ours, theirs), (ours, theirs)


def test_what_is_no_json_is_said_to_be_none() -> None:
    for codec in twins("Given", {"f": int}):
        with pytest.raises(Invalid) as caught:
            codec.decode(b"{oops")
        (error,) = caught.value.errors
        assert error["type"] == "json_invalid"
        assert "Expecting property name enclosed in double quotes" in error["msg"]
