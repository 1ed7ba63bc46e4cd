"""What an environment gives, as the texts that go to a client: an observation is four of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Callable

from .installed import pydantic
from .texts import Unsayable, scalar, text, unknown

APART = frozenset({"reward", "done", "metadata"})
"""What is sent beside an observation's own fields."""
PYDANTIC_APART = set(APART)
NOTHING = b"null"
EMPTY = b"{}"
Encoder = Callable[[Any], bytes]


def observation(value: Any) -> bytes:
    """The observation's own fields, its reward, whether the episode is done, and its metadata: four lines of JSON."""
    return encoder_of(type(value))(value)


def whole(value: Any, where: str) -> bytes:
    """All of a value in one, as a state is."""
    if pydantic is not None and isinstance(value, pydantic.BaseModel):
        return _dumped(value, None, where)
    if not isinstance(value, Mapping) and not dataclasses.is_dataclass(value) and hasattr(value, "__dict__"):
        value = {name: item for name, item in vars(value).items() if not name.startswith("_")}
    elif dataclasses.is_dataclass(value) and getattr(value, "__dict__", None):
        # What was set beside its fields is part of it.
        value = vars(value)
    return text(value, where)


def encoder_of(kind: type) -> Encoder:
    """How observations of this type are said; one decision for each type."""
    found = _encoders.get(kind)
    if found is None:
        found = _encoders[kind] = _made(kind)
    return found


_encoders: dict[type, Encoder] = {}


def _made(kind: type) -> Encoder:
    if kind is type(None):
        return _nothing
    if pydantic is not None and issubclass(kind, pydantic.BaseModel):
        return _of_pydantic(kind)
    if issubclass(kind, Mapping):
        return _of_mapping
    if dataclasses.is_dataclass(kind):
        return _of_dataclass(kind)
    return _of_object


def _nothing(_: None) -> bytes:
    raise TypeError("the environment gave None; reset and step have to return an observation")


def _told(fields: bytes, reward: Any, done: Any, metadata: Any) -> bytes:
    said_reward = scalar(reward, "reward")
    if metadata is None:
        said_metadata = NOTHING
    else:
        said_metadata = text(metadata, "metadata") if metadata else EMPTY
        if said_metadata[:1] != b"{":
            raise Unsayable("metadata", f"it is no dict but {type(metadata).__name__}")
    return b"%b\n%b\n%b\n%b" % (fields, said_reward, b"true" if done else b"false", said_metadata)


def _dumped(value: Any, apart: Any, where: str) -> bytes:
    try:
        said: bytes = value.__pydantic_serializer__.to_json(value, exclude=apart, fallback=unknown, warnings=False)
    except Exception:  # noqa: BLE001
        # Such as a lone surrogate, or what nobody knows: the careful way says what can be said, or where it cannot.
        fields = value.__pydantic_serializer__.to_python(value, exclude=apart, warnings=False)
        return text(fields, where)
    return said


def _of_pydantic(kind: type) -> Encoder:
    serialize = kind.__pydantic_serializer__.to_json  # type: ignore[attr-defined]

    def encode(value: Any) -> bytes:
        try:
            fields = serialize(value, exclude=PYDANTIC_APART, fallback=unknown, warnings=False)
        except Exception:  # noqa: BLE001
            # The same once more, slowly, which names what is wrong.
            fields = _dumped(value, PYDANTIC_APART, "observation")
        return _told(
            fields, getattr(value, "reward", None), getattr(value, "done", False), getattr(value, "metadata", None)
        )

    return encode


def _of_dataclass(kind: type) -> Encoder:
    names = [field.name for field in dataclasses.fields(kind) if field.name not in APART]

    def encode(value: Any) -> bytes:
        fields = text({name: getattr(value, name) for name in names}, "observation")
        return _told(
            fields, getattr(value, "reward", None), getattr(value, "done", False), getattr(value, "metadata", None)
        )

    return encode


def _of_mapping(value: Mapping[str, Any]) -> bytes:
    fields = text({name: item for name, item in value.items() if name not in APART}, "observation")
    return _told(fields, value.get("reward"), value.get("done", False), value.get("metadata"))


def _of_object(value: Any) -> bytes:
    try:
        attributes = vars(value)
    except TypeError:
        raise TypeError(f"the environment gave {type(value).__name__}, which is no observation") from None
    return _of_mapping({name: item for name, item in attributes.items() if not name.startswith("_")})
