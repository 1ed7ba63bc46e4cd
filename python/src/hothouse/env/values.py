"""Values of gymnasium's spaces, from JSON and to JSON. A value that does not fit is told by the place of what is wrong.

Bounds of a box of real numbers are not checked: as in gymnasium itself, what lies outside is for the environment to
clip or to refuse. All else has to be in the space.
"""

from __future__ import annotations

import enum
from typing import Any, Callable

import numpy as np
from gymnasium import spaces

from .packed import packed, unpacked
from .scalars import WRONG, Check, Errors, bounded, check_float, check_int, check_str, wrong
from .validation import placed

ARRAYS = (spaces.Box, spaces.MultiBinary, spaces.MultiDiscrete)
"""Spaces of arrays."""


class Arrays(enum.Enum):
    """How arrays are sent."""

    LISTS = "lists"
    PACKED = "packed"


def check_of_space(space: Any) -> Check:
    """The check of a space, which gives its values as the space itself samples them. Arrays may come packed."""
    for kind, made in CHECKS.items():
        if isinstance(space, kind):
            return _unpacking(made(space)) if isinstance(space, ARRAYS) else made(space)
    return _any_of(space)


def _unpacking(check: Check) -> Check:
    def unpack(value: Any, errors: Errors) -> Any:
        if isinstance(value, dict):
            try:
                value = unpacked(value)
            except ValueError as error:
                return wrong(errors, "value_error", f"Value error, {error}", value, error=str(error))
        return check(value, errors)

    return unpack


def _any_of(space: Any) -> Check:
    """Of a space that nobody has heard of: what it says itself."""

    def check(value: Any, errors: Errors) -> Any:
        (sample,) = space.from_jsonable([value])
        if not space.contains(sample):
            return wrong(errors, "value_error", f"Input should be in {space}", value)
        return sample

    return check


def plain_of_space(space: Any, arrays: Arrays = Arrays.LISTS) -> Callable[[Any], Any]:
    """What makes a sample of a space into what JSON has; most samples are that already, or are arrays."""
    if isinstance(space, spaces.Graph):
        return _plain_graph
    if isinstance(space, spaces.Tuple):
        parts = [plain_of_space(part, arrays) for part in space.spaces]
        return lambda sample: [part(item) for part, item in zip(parts, sample)]
    if isinstance(space, spaces.Dict):
        named = {key: plain_of_space(part, arrays) for key, part in space.spaces.items()}
        return lambda sample: {str(key): part(sample[key]) for key, part in named.items() if key in sample}
    return _packed if arrays is Arrays.PACKED and isinstance(space, ARRAYS) else _same


def _packed(sample: Any) -> Any:
    return packed(sample) if isinstance(sample, np.ndarray) else _same(sample)


def _same(sample: Any) -> Any:
    return sample.tolist() if isinstance(sample, (np.ndarray, np.generic)) else sample


def _plain_graph(sample: Any) -> dict[str, Any]:
    return {name: _same(getattr(sample, name)) for name in ("nodes", "edges", "edge_links")}


def _list(value: Any, size: int, errors: Errors) -> Any:
    """A list of that many items, or WRONG."""
    if not isinstance(value, (list, tuple)):
        return wrong(errors, "list_type", "Input should be a valid list", value)
    if len(value) == size:
        return value
    most, kind = ("most", "too_long") if len(value) > size else ("least", "too_short")
    items = "item" if size == 1 else "items"
    message = f"List should have at {most} {size} {items} after validation, not {len(value)}"
    name = "max_length" if kind == "too_long" else "min_length"
    return wrong(errors, kind, message, value, **{"field_type": "List", name: size, "actual_length": len(value)})


def _listed(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def _nested(value: Any, shape: tuple[int, ...], item: Check, errors: Errors) -> Any:
    """The slow way through an array, which tells what is wrong where."""
    if not shape:
        return item(value, errors)
    items = _list(value, shape[0], errors)
    if items is WRONG:
        return WRONG
    before = len(errors)
    made = [
        placed(lambda each, found: _nested(each, shape[1:], item, found), each, errors, index)
        for index, each in enumerate(items)
    ]
    return WRONG if len(errors) > before else made


def _of_box(space: Any) -> Check:
    dtype, shape = space.dtype, space.shape
    if dtype.kind != "f":
        bounds = {"ge": int(np.iinfo(dtype).min), "le": int(np.iinfo(dtype).max)} if dtype.kind in "iu" else {}
        if space.low.size:
            bounds = {"ge": int(space.low.min()), "le": int(space.high.max())}
        return _of_integers(space, bounded(check_int, bounds), shape)

    def check(value: Any, errors: Errors) -> Any:
        try:
            array = np.array(value, dtype)
        except (ValueError, TypeError):
            array = None
        if array is not None and array.shape == shape and not np.isnan(array).any():
            return array
        made = _nested(_listed(value), shape, check_float, errors)
        return WRONG if made is WRONG else np.array(made, dtype)

    return check


def _of_integers(space: Any, item: Check, shape: tuple[int, ...]) -> Check:
    def check(value: Any, errors: Errors) -> Any:
        try:
            raw = np.array(value)
        except (ValueError, TypeError):
            raw = None
        if raw is not None and raw.dtype.kind in "iu" and raw.shape == shape:
            array = raw.astype(space.dtype)
            if (array == raw).all() and space.contains(array):
                return array
        made = _nested(_listed(value), shape, item, errors)
        if made is WRONG:
            return WRONG
        array = np.array(made, space.dtype)
        if not space.contains(array):
            return wrong(errors, "value_error", f"Input should be in {space}", value)
        return array

    return check


def _of_discrete(space: Any) -> Check:
    first, last = int(space.start), int(space.start + space.n - 1)
    made = np.dtype(getattr(space, "dtype", None) or np.int64).type
    slow = bounded(check_int, {"le": last, "ge": first})

    def check(value: Any, errors: Errors) -> Any:
        if type(value) is int and first <= value <= last:
            return made(value)
        result = slow(value, errors)
        return WRONG if result is WRONG else made(result)

    return check


def _of_multi_discrete(space: Any) -> Check:
    start = getattr(space, "start", np.zeros_like(space.nvec))
    if space.nvec.ndim == 1:
        # One check for each place, so that the error is there.
        items = [
            bounded(check_int, {"le": int(first + count - 1), "ge": int(first)})
            for count, first in zip(space.nvec, start)
        ]

        def check(value: Any, errors: Errors) -> Any:
            given = _list(_listed(value), len(items), errors)
            if given is WRONG:
                return WRONG
            before = len(errors)
            made = [placed(item, each, errors, index) for index, (item, each) in enumerate(zip(items, given))]
            return WRONG if len(errors) > before else np.array(made, space.dtype)

        return check
    bounds = {"ge": int(start.min()), "le": int((start + space.nvec).max() - 1)}
    return _of_integers(space, bounded(check_int, bounds), space.shape)


def _of_text(space: Any) -> Check:
    sized = bounded(check_str, {"min_length": int(space.min_length), "max_length": int(space.max_length)})
    known = frozenset(space.character_list)

    def check(value: Any, errors: Errors) -> Any:
        result = sized(value, errors)
        strange = "" if result is WRONG else "".join(sorted(set(result) - known))
        if strange:
            message = f"Input should have no other characters than those of its space; it has {strange!r}"
            return wrong(errors, "string_pattern_mismatch", message, value, pattern="".join(space.character_list))
        return result

    return check


def _of_tuple(space: Any) -> Check:
    parts = [check_of_space(part) for part in space.spaces]

    def check(value: Any, errors: Errors) -> Any:
        given = _list(value, len(parts), errors)
        if given is WRONG:
            return WRONG
        before = len(errors)
        made = tuple(placed(part, each, errors, index) for index, (part, each) in enumerate(zip(parts, given)))
        return WRONG if len(errors) > before else made

    return check


def _of_dict(space: Any) -> Check:
    parts = {str(key): (key, check_of_space(part)) for key, part in space.spaces.items()}

    def check(value: Any, errors: Errors) -> Any:
        made = checked_object(value, {name: part for name, (_, part) in parts.items()}, errors)
        return WRONG if made is WRONG else {parts[name][0]: item for name, item in made.items()}

    return check


def checked_object(value: Any, parts: dict[str, Check], errors: Errors) -> Any:
    """An object with just these fields, each checked; or WRONG."""
    if not isinstance(value, dict):
        return wrong(errors, "dict_type", "Input should be a valid dictionary", value)
    before = len(errors)
    made = {}
    for name, part in parts.items():
        if name in value:
            made[name] = placed(part, value[name], errors, name)
        else:
            wrong(errors, "missing", "Field required", value)
            errors[-1]["loc"].insert(0, name)
    for name in value:
        if name not in parts:
            wrong(errors, "extra_forbidden", "Extra inputs are not permitted", value[name])
            errors[-1]["loc"].insert(0, name)
    return WRONG if len(errors) > before else made


def _of_sequence(space: Any) -> Check:
    item = check_of_space(space.feature_space)

    def check(value: Any, errors: Errors) -> Any:
        if not isinstance(value, (list, tuple)):
            return wrong(errors, "list_type", "Input should be a valid list", value)
        before = len(errors)
        made = tuple(placed(item, each, errors, index) for index, each in enumerate(value))
        if len(errors) > before:
            return WRONG
        return space.from_jsonable([value])[0] if space.stack else made

    return check


def _of_one_of(space: Any) -> Check:
    parts = [check_of_space(part) for part in space.spaces]
    choice = bounded(check_int, {"le": len(parts) - 1, "ge": 0})

    def check(value: Any, errors: Errors) -> Any:
        given = _list(value, 2, errors)
        index = WRONG if given is WRONG else placed(choice, given[0], errors, 0)
        if index is WRONG:
            return WRONG
        made = placed(parts[index], given[1], errors, 1)
        return WRONG if made is WRONG else (np.int64(index), made)

    return check


def _of_graph(space: Any) -> Check:
    nodes = _of_sequence(spaces.Sequence(space.node_space))
    edges = _of_sequence(spaces.Sequence(space.edge_space)) if space.edge_space is not None else None

    def check(value: Any, errors: Errors) -> Any:
        parts: dict[str, Check] = {"nodes": nodes}
        if edges is not None and isinstance(value, dict) and value.get("edges") is not None:
            pairs = spaces.Sequence(spaces.Box(0, max(len(value.get("nodes") or ()) - 1, 0), (2,), np.int32))
            parts.update(edges=edges, edge_links=_of_sequence(pairs))
        given = {name: item for name, item in value.items() if item is not None} if isinstance(value, dict) else value
        made = checked_object(given, parts, errors)
        if made is WRONG:
            return WRONG
        stacked = {name: np.array(item) for name, item in made.items()}
        links = stacked["edge_links"].astype(np.int32) if "edge_links" in stacked else None
        return spaces.GraphInstance(stacked["nodes"], stacked.get("edges"), links)

    return check


CHECKS: dict[type, Callable[[Any], Check]] = {
    spaces.Box: _of_box,
    spaces.Discrete: _of_discrete,
    spaces.MultiDiscrete: _of_multi_discrete,
    spaces.MultiBinary: lambda space: _of_integers(space, bounded(check_int, {"le": 1, "ge": 0}), space.shape),
    spaces.Text: _of_text,
    spaces.Tuple: _of_tuple,
    spaces.Dict: _of_dict,
    spaces.Sequence: _of_sequence,
    spaces.Graph: _of_graph,
}
if hasattr(spaces, "OneOf"):
    CHECKS[spaces.OneOf] = _of_one_of
