"""JSON texts of whatever an environment gives: compact, UTF-8, and never wrong.

NaN and infinities become null, numpy's scalars and arrays numbers and lists, lone surrogates the replacement character.
What cannot be said raises `Unsayable`, which names the place.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import enum
import json
import math
import os
import re
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, Callable, Optional

from .installed import to_json

_SURROGATE = re.compile("[\ud800-\udfff]")
DEEPEST = 200
"""How deep values may lie in each other; more is a loop."""


class Unsayable(TypeError):
    """A value that JSON has no words for; `where` is the path of it."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"{where} cannot be said as JSON: {why}")
        self.where = where


def text(value: Any, where: str = "the value") -> bytes:
    """The value as JSON. `where` is what an error calls it."""
    try:
        return _quick(value)
    except Exception:  # noqa: BLE001
        # Whatever is the matter with it: the careful way says it, or says what is wrong and where.
        return _careful(value, where)


def scalar(value: Any, where: str) -> bytes:
    """A number, a truth or nothing, as a reward is."""
    kind = type(value)
    if kind is float:
        return float.__repr__(value).encode() if math.isfinite(value) else b"null"
    if value is None:
        return b"null"
    if kind is bool:
        return b"true" if value else b"false"
    if kind is int:
        return b"%d" % value
    plain = sayable(value, where)
    if isinstance(plain, list) and len(plain) == 1:
        # An array of one, as vector code has its rewards.
        (plain,) = plain
    if plain is not None and not isinstance(plain, (bool, int, float)):
        raise Unsayable(where, f"it is no number but {type(value).__name__}")
    return scalar(plain, where)


def sayable(value: Any, where: str = "the value", depth: int = 0) -> Any:
    """The same value, made of what JSON has. Raises `Unsayable`, which names the place."""
    if depth > DEEPEST:
        raise Unsayable(where, f"it lies more than {DEEPEST} deep, or contains itself")
    kind = type(value)
    if value is None or kind is bool or kind is int:
        return value
    if kind is str:
        return _clean(value)
    if kind is float:
        return value if math.isfinite(value) else None
    if kind is dict:
        return _mapping(value, where, depth)
    if kind is list or kind is tuple:
        return [sayable(item, f"{where}[{index}]", depth + 1) for index, item in enumerate(value)]
    return _other(value, where, depth)


def _quick_standard(value: Any) -> bytes:
    return _ENCODER.encode(value).encode()


def _quick_core(value: Any) -> bytes:
    assert to_json is not None
    return to_json(value, fallback=unknown, inf_nan_mode="null")


def unknown(value: Any) -> Any:
    """What a serializer that meets something strange is to say instead. It goes on with what is in that."""
    listed = _listed(value)
    return sayable(value) if listed is None else listed


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=unknown)
_quick: Callable[[Any], bytes] = _quick_standard if to_json is None else _quick_core


def _careful(value: Any, where: str) -> bytes:
    return _ENCODER.encode(sayable(value, where)).encode()


def _clean(said: str) -> str:
    return said if said.isascii() else _SURROGATE.sub("\ufffd", str(said))


def _mapping(value: Mapping[Any, Any], where: str, depth: int) -> dict[str, Any]:
    said = {}
    for key, item in value.items():
        name = _key(key, where)
        said[name] = sayable(item, f"{where}.{name}", depth + 1)
    return said


def _key(key: Any, where: str) -> str:
    if isinstance(key, enum.Enum):
        key = key.value
    if isinstance(key, str):
        return _clean(key)
    plain = _reduced(key)
    if isinstance(plain, bool) or plain is None:
        return {True: "true", False: "false", None: "null"}[plain]
    if isinstance(plain, (int, float)):
        return repr(plain)
    if isinstance(key, (uuid.UUID, os.PathLike, datetime.date)):
        return str(sayable(key))
    raise Unsayable(where, f"a key of it is {type(key).__name__}, and keys are texts")


def _reduced(value: Any) -> Any:
    """A scalar of numpy, or of what is like it, as Python's own."""
    item = getattr(value, "item", None)
    return item() if callable(item) and not isinstance(value, (int, float, str)) else value


def _other(value: Any, where: str, depth: int) -> Any:
    if isinstance(value, enum.Enum):
        return sayable(value.value, where, depth + 1)
    if isinstance(value, (bool, int, float, str)):
        # A class of its own over one of them, as numpy.float64 is.
        basic = next(kind for kind in (bool, int, float, str) if isinstance(value, kind))
        return sayable(basic(value), where, depth + 1)
    if isinstance(value, Mapping):
        return _mapping(value, where, depth)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return _mapping(fields, where, depth)
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        return sayable(dump(), where, depth + 1)
    listed = _listed(value)
    if listed is not None:
        return sayable(listed, where, depth + 1)
    told = _told(value)
    if told is None:
        raise Unsayable(where, f"it is {type(value).__module__}.{type(value).__qualname__}")
    return told


def _listed(value: Any) -> Optional[Any]:
    """Arrays and collections, as lists; a scalar of numpy as itself."""
    # Arrays of numpy, torch, jax and array.array all have it.
    tolist = getattr(value, "tolist", None)
    if callable(tolist) and not isinstance(value, type):
        detach = getattr(value, "detach", None)
        return detach().tolist() if callable(detach) else tolist()
    if isinstance(value, (list, tuple, set, frozenset, range)) or type(value).__name__ in {"deque", "dict_values"}:
        items: Iterable[Any] = value
        return list(items)
    return None


def _told(value: Any) -> Optional[str]:
    """What has one customary text."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        raw = bytes(value)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return base64.b64encode(raw).decode()
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, os.PathLike):
        return _clean(os.fsdecode(value))
    if isinstance(value, (uuid.UUID, decimal.Decimal)):
        return str(value)
    return None
