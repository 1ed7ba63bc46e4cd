"""What can go wrong with the environment of a client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import HothouseError


class EnvError(HothouseError, RuntimeError):
    """An environment, or the way to it, failed.

    `code` is the server's word for it, or this side's: `CONNECTION_FAILED`, `CONNECTION_LOST`, `TIMEOUT`,
    `BAD_ANSWER`. `errors` is what is wrong with an action, field by field; `data` is all that the server said.
    """

    def __init__(
        self,
        message: str,
        code: str | None = None,
        errors: list[dict[str, Any]] | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        HothouseError.__init__(self, message, code=code)
        self.message = message
        self.errors = errors or []
        self.data = dict(data or {})

    def __str__(self) -> str:
        return "\n  ".join([super().__str__(), *map(_told, self.errors)])


class EnvConnectionLost(EnvError):
    """The connection ended, and with it the session: by the server, or because no answer came in time."""


def _told(error: Any) -> str:
    if not isinstance(error, dict):
        return str(error)
    place = ".".join(map(str, error.get("loc") or ["action"]))
    return f"{place}: {error.get('msg', error)}"


def error_of(data: Any) -> EnvError:
    """The error in a server's message."""
    told = data if isinstance(data, dict) else {"message": str(data)}
    errors = told.get("errors")
    return EnvError(
        str(told.get("message", "the server said no reason")),
        told.get("code"),
        errors if isinstance(errors, list) else None,
        told,
    )
