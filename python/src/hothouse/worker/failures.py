"""What went wrong in an author's code, as it is told to the server."""

from __future__ import annotations

import traceback

from ..env.texts import text
from ..env.tools import ToolFailed

LONGEST_TRACEBACK = 64 << 10
LONGEST_MESSAGE = 16 << 10


def failure(error: BaseException) -> bytes:
    """`{"type", "message", "traceback"}`, and `"code"` of JSON-RPC where a tool failed."""
    told = {
        "type": type(error).__name__,
        "message": _message(error)[:LONGEST_MESSAGE],
        "traceback": "".join(traceback.format_exception(type(error), error, error.__traceback__))[-LONGEST_TRACEBACK:],
    }
    if isinstance(error, ToolFailed):
        return text({**told, "code": error.code}, "the error")
    return text(told, "the error")


def _message(error: BaseException) -> str:
    try:
        said = str(error)
    except Exception as again:  # noqa: BLE001
        # An error that cannot even say what it is must not end the session.
        said = f"its text cannot be told: {again!r}"
    return said or type(error).__name__
