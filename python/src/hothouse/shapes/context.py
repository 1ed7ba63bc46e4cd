"""Contexts: live interpreters, and what code came to in them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Optional

from .slots import SLOTS


@dataclass(**SLOTS)
class Value:
    """What the last expression of code came to.

    `json` is the value itself where `is_plain` is True: it consists of what JSON has (a tuple comes as a list) and is
    not too large. `mime` has its other forms by MIME type, text as it is and anything else as base64: see `data`.
    """

    repr: str
    json: Any = None
    is_plain: bool = False
    mime: Mapping[str, str] = field(default_factory=dict)

    def data(self, mime: str) -> bytes:
        """One of its other forms as bytes, e.g. that of `image/png`. Raises `KeyError` when it has none."""
        return data_of(mime, self.mime[mime])


@dataclass(**SLOTS)
class Raised:
    """The exception that ended code: its class, text and traceback.

    `name` is `ContextEnded` when the interpreter itself ended.
    """

    name: str
    message: str
    traceback: str


@dataclass(**SLOTS)
class ContextInfo:
    """A context; `reason` says why its interpreter is gone when `state` is `ended`."""

    context_id: str
    python: str
    state: Literal["starting", "idle", "busy", "ended"]
    forked_from: Optional[str] = None
    reason: Optional[str] = None


def data_of(mime: str, text: str) -> bytes:
    """The bytes of an entry of a MIME bundle."""
    is_text = mime.startswith("text/") or mime.endswith(("+xml", "+json", "/json", "/javascript"))
    return text.encode() if is_text else base64.b64decode(text)


def value_of(body: Mapping[str, Any] | None) -> Value | None:
    """Reads a `Value`."""
    if body is None:
        return None
    return Value(body["repr"], body.get("json"), "json" in body, body.get("mime", {}))


def raised_of(body: Mapping[str, Any] | None) -> Raised | None:
    """Reads a `Raised`."""
    return None if body is None else Raised(body["name"], body["message"], body["traceback"])


def context_of(body: Mapping[str, Any]) -> ContextInfo:
    """Reads a `ContextInfo`."""
    return ContextInfo(body["context_id"], body["python"], body["state"], body.get("forked_from"), body.get("reason"))
