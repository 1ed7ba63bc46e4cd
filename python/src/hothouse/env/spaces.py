"""Spaces of gymnasium as JSON: a description from which the same space is made again, and a JSON Schema.

A description is `{"type": "Box", …}` with what the space's constructor takes. Infinities are the texts "inf" and
"-inf". Bounds that are the same everywhere are one number.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Callable, Union

import numpy as np
from gymnasium import spaces

Description = dict[str, Any]
Schema = dict[str, Any]
Number = Union[int, float, str]


class SpaceUnknown(TypeError):
    """A space that has no JSON."""


def described(space: Any) -> Description:
    """What a space is, for a client to make the same one of. Raises `SpaceUnknown`."""
    for kind, describe in DESCRIBED.items():
        if isinstance(space, kind):
            return {"type": kind.__name__, **describe(space)}
    raise SpaceUnknown(f"{space!r} is a space that Hothouse cannot describe")


def space_of(description: Description) -> Any:
    """The space that a description is of. Raises `SpaceUnknown`."""
    made = MADE.get(description.get("type", ""))
    if made is None:
        raise SpaceUnknown(f"{description.get('type')!r} is no space that Hothouse knows")
    return made(description)


def schema_of_space(space: Any) -> Schema:
    """The JSON Schema of the values of a space, which are nested lists where they are arrays."""
    for kind, schema in SCHEMAS.items():
        if isinstance(space, kind):
            return schema(space)
    return {}


def _number(value: Any) -> Number:
    plain: Union[int, float, bool] = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, float) and not np.isfinite(plain):
        # There is no such number in JSON.
        return repr(plain)
    return int(plain) if isinstance(plain, bool) else plain


def _numbers(array: Any) -> Any:
    return [_numbers(item) for item in array] if isinstance(array, np.ndarray) and array.ndim else _number(array[()])


def _bound(array: Any) -> Any:
    """A bound of a box: one number where it is the same everywhere."""
    if array.size and (array == array.flat[0]).all():
        return _number(array.flat[0])
    return _numbers(array)


def _array(value: Any, dtype: Any) -> Any:
    """The numbers that `_numbers` told."""
    if isinstance(value, list):
        return np.array([_array(item, dtype) for item in value], dtype=dtype)
    return np.dtype(dtype).type(float(value) if isinstance(value, str) else value)


def _of_box(space: Any) -> Description:
    return {
        "low": _bound(space.low),
        "high": _bound(space.high),
        "shape": list(space.shape),
        "dtype": str(space.dtype),
    }


def _box(told: Description) -> Any:
    dtype, shape = np.dtype(told["dtype"]), tuple(told["shape"])
    low, high = (np.broadcast_to(_array(told[bound], dtype), shape).copy() for bound in ("low", "high"))
    return spaces.Box(low, high, shape, dtype)


def _of_discrete(space: Any) -> Description:
    dtype = str(getattr(space, "dtype", None) or np.dtype(np.int64))
    return {"n": int(space.n), "start": int(space.start), "dtype": dtype}


def _discrete(told: Description) -> Any:
    dtype = told.get("dtype", "int64")
    # Older ones know no other type.
    more: dict[str, Any] = {} if dtype == "int64" else {"dtype": np.dtype(dtype).type}
    return spaces.Discrete(told["n"], start=told.get("start", 0), **more)


def _of_multi_discrete(space: Any) -> Description:
    start = getattr(space, "start", None)
    told = {"nvec": space.nvec.tolist(), "dtype": str(space.dtype)}
    return {**told, "start": start.tolist()} if start is not None and start.any() else told


def _multi_discrete(told: Description) -> Any:
    dtype = np.dtype(told["dtype"])
    more: dict[str, Any] = {"start": np.array(told["start"], dtype)} if "start" in told else {}
    return spaces.MultiDiscrete(np.array(told["nvec"], dtype), dtype=dtype.type, **more)


def _of_multi_binary(space: Any) -> Description:
    # A list of one is another space than a number.
    return {"n": int(space.n) if np.ndim(space.n) == 0 else [int(size) for size in space.n]}


def _of_text(space: Any) -> Description:
    return {
        "min_length": int(space.min_length),
        "max_length": int(space.max_length),
        "characters": "".join(space.character_list),
    }


def _text(told: Description) -> Any:
    return spaces.Text(told["max_length"], min_length=told["min_length"], charset=told["characters"])


def _of_parts(space: Any) -> Description:
    return {"spaces": [described(part) for part in space.spaces]}


def _of_dict(space: Any) -> Description:
    # Pairs, since their order counts, and keys may be numbers.
    return {"spaces": [[key, described(part)] for key, part in space.spaces.items()]}


def _of_sequence(space: Any) -> Description:
    return {"space": described(space.feature_space), "stack": bool(space.stack)}


def _of_graph(space: Any) -> Description:
    edges = space.edge_space
    return {"nodes": described(space.node_space), "edges": None if edges is None else described(edges)}


def _graph(told: Description) -> Any:
    edges = told["edges"]
    return spaces.Graph(space_of(told["nodes"]), None if edges is None else space_of(edges))


DESCRIBED: dict[type, Callable[[Any], Description]] = {
    spaces.Box: _of_box,
    spaces.Discrete: _of_discrete,
    spaces.MultiDiscrete: _of_multi_discrete,
    spaces.MultiBinary: _of_multi_binary,
    spaces.Text: _of_text,
    spaces.Tuple: _of_parts,
    spaces.Dict: _of_dict,
    spaces.Sequence: _of_sequence,
    spaces.Graph: _of_graph,
}
MADE: dict[str, Callable[[Description], Any]] = {
    "Box": _box,
    "Discrete": _discrete,
    "MultiDiscrete": _multi_discrete,
    "MultiBinary": lambda told: spaces.MultiBinary(told["n"]),
    "Text": _text,
    "Tuple": lambda told: spaces.Tuple([space_of(part) for part in told["spaces"]]),
    "Dict": lambda told: spaces.Dict(OrderedDict((key, space_of(part)) for key, part in told["spaces"])),
    "Sequence": lambda told: spaces.Sequence(space_of(told["space"]), stack=told["stack"]),
    "Graph": _graph,
}


def _nested(shape: tuple[int, ...], item: Schema) -> Schema:
    schema = item
    for size in reversed(shape):
        schema = {"type": "array", "items": schema, "minItems": size, "maxItems": size}
    return schema


def _box_schema(space: Any) -> Schema:
    item: Schema = {"type": "number" if space.dtype.kind == "f" else "integer"}
    for word, bound in (("minimum", _bound(space.low)), ("maximum", _bound(space.high))):
        if isinstance(bound, (int, float)):
            item[word] = bound
    return _nested(space.shape, item)


def _discrete_schema(space: Any) -> Schema:
    return {"type": "integer", "minimum": int(space.start), "maximum": int(space.start + space.n - 1)}


def _multi_discrete_schema(space: Any) -> Schema:
    start = getattr(space, "start", np.zeros_like(space.nvec))

    def nested(counts: Any, first: Any) -> Schema:
        if np.ndim(counts) == 0:
            return {"type": "integer", "minimum": int(first), "maximum": int(first + counts - 1)}
        parts = [nested(count, begin) for count, begin in zip(counts, first)]
        if all(part == parts[0] for part in parts):
            return {"type": "array", "items": parts[0], "minItems": len(parts), "maxItems": len(parts)}
        return {"type": "array", "prefixItems": parts, "minItems": len(parts), "maxItems": len(parts)}

    return nested(space.nvec, start)


def _text_schema(space: Any) -> Schema:
    return {"type": "string", "minLength": int(space.min_length), "maxLength": int(space.max_length)}


def _tuple_schema(space: Any) -> Schema:
    parts = [schema_of_space(part) for part in space.spaces]
    return {"type": "array", "prefixItems": parts, "minItems": len(parts), "maxItems": len(parts)}


def _dict_schema(space: Any) -> Schema:
    parts = {str(key): schema_of_space(part) for key, part in space.spaces.items()}
    return {"type": "object", "properties": parts, "required": list(parts), "additionalProperties": False}


def _graph_schema(space: Any) -> Schema:
    edges = [] if space.edge_space is None else [schema_of_space(space.edge_space)]
    return {
        "type": "object",
        "properties": {
            "nodes": {"type": "array", "items": schema_of_space(space.node_space)},
            "edges": {"anyOf": [*({"type": "array", "items": edge} for edge in edges), {"type": "null"}]},
            "edge_links": {"anyOf": [{"type": "array", "items": _nested((2,), {"type": "integer"})}, {"type": "null"}]},
        },
        "required": ["nodes"],
    }


SCHEMAS: dict[type, Callable[[Any], Schema]] = {
    spaces.Box: _box_schema,
    spaces.Discrete: _discrete_schema,
    spaces.MultiDiscrete: _multi_discrete_schema,
    spaces.MultiBinary: lambda space: _nested(space.shape, {"type": "integer", "minimum": 0, "maximum": 1}),
    spaces.Text: _text_schema,
    spaces.Tuple: _tuple_schema,
    spaces.Dict: _dict_schema,
    spaces.Sequence: lambda space: {"type": "array", "items": schema_of_space(space.feature_space)},
    spaces.Graph: _graph_schema,
}

# Younger than the others.
if hasattr(spaces, "OneOf"):
    DESCRIBED[spaces.OneOf] = _of_parts
    MADE["OneOf"] = lambda told: spaces.OneOf([space_of(part) for part in told["spaces"]])
    SCHEMAS[spaces.OneOf] = lambda space: {
        "anyOf": [
            {"type": "array", "prefixItems": [{"const": index}, schema_of_space(part)], "minItems": 2, "maxItems": 2}
            for index, part in enumerate(space.spaces)
        ]
    }
