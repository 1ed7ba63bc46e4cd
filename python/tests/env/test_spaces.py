"""Spaces of gymnasium go to a client and come back, and so do their values."""

from __future__ import annotations

import base64
import json
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
from gymnasium import Space, spaces

from hothouse.env.packed import packed, unpacked
from hothouse.env.scalars import WRONG, Errors
from hothouse.env.spaces import SpaceUnknown, described, schema_of_space, space_of
from hothouse.env.texts import text
from hothouse.env.values import Arrays, check_of_space, plain_of_space

INF = float("inf")
SPACES: list[Any] = [
    spaces.Box(-INF, INF, (3,), np.float32),
    spaces.Box(np.array([-1, -INF], np.float32), np.array([0.1, 2], np.float32)),
    spaces.Box(0, 255, (2, 2, 3), np.uint8),
    spaces.Box(0, 1, (), np.float64),
    spaces.Box(-5, 5, (2,), np.int32),
    spaces.Box(0, 1, (0,), np.float32),
    spaces.Discrete(3),
    spaces.Discrete(5, start=-2),
    spaces.Discrete(3, dtype=np.int8),
    spaces.MultiDiscrete([3, 2]),
    spaces.MultiDiscrete([4, 4], dtype=np.int32),
    spaces.MultiDiscrete(np.array([[3, 2], [1, 5]]), start=np.array([[0, 1], [2, 3]])),
    spaces.MultiBinary(4),
    spaces.MultiBinary([2, 3]),
    spaces.MultiBinary([2]),
    spaces.Text(5),
    spaces.Text(3, min_length=0, charset="cab"),
    spaces.Tuple([spaces.Discrete(2), spaces.Box(0, 1, (2,))]),
    spaces.Dict(b=spaces.Discrete(2), a=spaces.Text(2)),
    spaces.Dict(OrderedDict(z=spaces.Discrete(2), a=spaces.Dict(x=spaces.MultiBinary(2)))),
    spaces.Sequence(spaces.Discrete(4)),
    spaces.Sequence(spaces.Box(0, 1, (2,)), stack=True),
    spaces.OneOf([spaces.Discrete(2), spaces.Text(3)]),
    spaces.Graph(spaces.Box(0, 1, (2,)), spaces.Discrete(3)),
    spaces.Graph(spaces.Discrete(4), None),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_a_client_can_make_the_same_space(space: Any) -> None:
    told = json.loads(json.dumps(described(space), allow_nan=False))
    made = space_of(told)
    assert made == space
    assert (type(made), made.shape, made.dtype) == (type(space), space.shape, space.dtype)
    assert described(made) == told
    if isinstance(space, spaces.Dict):
        assert list(made.spaces) == list(space.spaces)
    if isinstance(space, spaces.Box):
        assert made.low.tolist() == space.low.tolist()
        assert made.high.tolist() == space.high.tolist()


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_samples_go_there_and_back(space: Any) -> None:
    space.seed(7)
    check, plain = check_of_space(space), plain_of_space(space)
    for _ in range(100):
        sample = space.sample()
        errors: Errors = []
        made = check(json.loads(text(plain(sample))), errors)
        assert errors == []
        assert space.contains(made)
        assert str(made) == str(sample)


LARGE: list[Any] = [
    spaces.Box(0, 255, (7, 5, 3), np.uint8),
    spaces.Box(-INF, INF, (130,), np.float32),
    spaces.Box(-5, 5, (9, 9), np.int16),
    spaces.MultiBinary(100),
    spaces.MultiDiscrete([3] * 80),
    spaces.Dict(pixels=spaces.Box(0, 1, (80,)), more=spaces.Tuple([spaces.Discrete(3), spaces.Box(0, 1, (100,))])),
]


@pytest.mark.parametrize("space", [*SPACES, *LARGE], ids=str)
def test_samples_go_there_and_back_packed(space: Any) -> None:
    space.seed(7)
    check, plain = check_of_space(space), plain_of_space(space, Arrays.PACKED)
    for _ in range(20):
        sample = space.sample()
        said = text(plain(sample))
        assert (b"base64" in said) == (space in LARGE)
        errors: Errors = []
        made = check(json.loads(said), errors)
        assert errors == []
        assert space.contains(made)
        assert str(made) == str(sample)


def test_what_is_packed_is_in_one_order_of_bytes() -> None:
    array = np.arange(100, dtype=">i4").reshape(10, 10).T
    said = packed(array)
    assert (said["dtype"], said["shape"]) == ("int32", [10, 10])
    assert base64.b64decode(said["base64"])[4:8] == (10).to_bytes(4, "little")
    made = unpacked(said)
    assert np.array_equal(made, array)
    assert made.flags.writeable


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"dtype": "object"}, "no type of numbers"),
        ({"dtype": "nothing"}, "no type of numbers"),
        ({"dtype": "U4"}, "no type of numbers"),
        ({"dtype": ["f4"]}, "are texts"),
        ({"shape": [-1, 4]}, "list of whole numbers"),
        ({"shape": "4"}, "list of whole numbers"),
        ({"shape": [3]}, "has not 4 bytes"),
        ({"shape": [1 << 40, 1 << 40]}, "has not 4 bytes"),
        ({"base64": "&"}, ""),
        ({"base64": "é"}, ""),
    ],
)
def test_what_is_packed_wrongly_is_told(changed: dict[str, Any], why: str) -> None:
    said = {"dtype": "uint8", "shape": [4], "base64": "AAECAw==", **changed}
    errors: Errors = []
    assert check_of_space(spaces.Box(0, 255, (4,), np.uint8))(said, errors) is WRONG
    assert errors[0]["type"] == "value_error"
    assert why in errors[0]["msg"]


def test_a_packed_array_of_another_shape_is_told() -> None:
    errors: Errors = []
    check = check_of_space(spaces.Box(0, 255, (2,), np.uint8))
    assert check({"dtype": "uint8", "shape": [4], "base64": "AAECAw=="}, errors) is WRONG
    assert errors[0]["type"] == "too_long"


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_every_space_has_a_schema(space: Any) -> None:
    schema = schema_of_space(space)
    assert schema
    json.dumps(schema, allow_nan=False)


def test_schemas_say_what_is_in_a_space() -> None:
    assert schema_of_space(spaces.Box(-1, INF, (2,))) == {
        "type": "array",
        "items": {"type": "number", "minimum": -1.0},
        "minItems": 2,
        "maxItems": 2,
    }
    assert schema_of_space(spaces.Discrete(3, start=1)) == {"type": "integer", "minimum": 1, "maximum": 3}
    assert schema_of_space(spaces.MultiDiscrete([2, 3]))["prefixItems"][1]["maximum"] == 2
    assert schema_of_space(spaces.Dict(a=spaces.Discrete(2)))["required"] == ["a"]


WRONGS: list[tuple[Any, Any, str, list[Any]]] = [
    (spaces.Discrete(2), 2, "less_than_equal", []),
    (spaces.Discrete(2), -1, "greater_than_equal", []),
    (spaces.Discrete(2), "x", "int_parsing", []),
    (spaces.Discrete(2), None, "int_type", []),
    (spaces.Discrete(2), 0.5, "int_from_float", []),
    (spaces.Box(0, 1, (2,)), [1], "too_short", []),
    (spaces.Box(0, 1, (2,)), [1, 1, 1], "too_long", []),
    (spaces.Box(0, 1, (2,)), 1, "list_type", []),
    (spaces.Box(0, 1, (2,)), [1, None], "float_type", [1]),
    (spaces.Box(0, 1, (2,)), [1, "a"], "float_parsing", [1]),
    (spaces.Box(0, 1, (1, 2)), [[1, "a"]], "float_parsing", [0, 1]),
    (spaces.Box(0, 1, (1, 2)), [[1], [2]], "too_long", []),
    (spaces.Box(0, 255, (2,), np.uint8), [1, 256], "less_than_equal", [1]),
    (spaces.Box(0, 255, (2,), np.uint8), [1, 1.5], "int_from_float", [1]),
    (spaces.MultiDiscrete([3, 2]), [2, 2], "less_than_equal", [1]),
    (spaces.MultiDiscrete(np.array([[3, 2]])), [[2, 2]], "value_error", []),
    (spaces.MultiBinary(2), [0, 2], "less_than_equal", [1]),
    (spaces.Text(3), "abcd", "string_too_long", []),
    (spaces.Text(3), "\u00e4", "string_pattern_mismatch", []),
    (spaces.Text(3), 5, "string_type", []),
    (spaces.Tuple([spaces.Discrete(2)]), [3], "less_than_equal", [0]),
    (spaces.Tuple([spaces.Discrete(2)]), [], "too_short", []),
    (spaces.Dict(a=spaces.Discrete(2)), {}, "missing", ["a"]),
    (spaces.Dict(a=spaces.Discrete(2)), {"a": 0, "b": 1}, "extra_forbidden", ["b"]),
    (spaces.Dict(a=spaces.Box(0, 1, (1,))), {"a": ["x"]}, "float_parsing", ["a", 0]),
    (spaces.Sequence(spaces.Discrete(2)), [0, 5], "less_than_equal", [1]),
    (spaces.Sequence(spaces.Discrete(2)), 5, "list_type", []),
    (spaces.OneOf([spaces.Discrete(2)]), [0, 5], "less_than_equal", [1]),
    (spaces.OneOf([spaces.Discrete(2)]), [1, 0], "less_than_equal", [0]),
    (spaces.Graph(spaces.Discrete(2), None), {"nodes": [5]}, "less_than_equal", ["nodes", 0]),
]


@pytest.mark.parametrize(("space", "value", "kind", "place"), WRONGS, ids=lambda each: str(each)[:40])
def test_what_is_in_no_space_is_told_by_its_place(space: Any, value: Any, kind: str, place: list[Any]) -> None:
    errors: Errors = []
    assert check_of_space(space)(value, errors) is WRONG
    assert [(error["type"], error["loc"]) for error in errors] == [(kind, place)]


def test_real_numbers_outside_of_a_box_are_for_the_environment() -> None:
    errors: Errors = []
    made = check_of_space(spaces.Box(-1, 1, (2,)))([3, "-2.5"], errors)
    assert (made.tolist(), made.dtype, errors) == ([3.0, -2.5], np.dtype(np.float32), [])


class Strange(Space[Any]):
    pass


def test_a_space_that_nobody_knows_is_refused() -> None:
    with pytest.raises(SpaceUnknown):
        described(Strange())
    with pytest.raises(SpaceUnknown):
        space_of({"type": "Strange"})
