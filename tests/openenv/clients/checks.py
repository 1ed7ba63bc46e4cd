"""What a program of the matrix says: one JSON line for each check."""

from __future__ import annotations

import json
import sys
import traceback
from types import TracebackType
from typing import Any


class Check:
    """One check: what its block raises is its failure, and is no reason for the next ones not to run."""

    def __init__(self, report: Report, name: str) -> None:
        self._report = report
        self._name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> bool:
        if error is not None and not isinstance(error, Exception):
            return False
        text = None
        if error is not None:
            frames = traceback.extract_tb(at)
            # The line of the check itself, not that deep inside a client.
            line = frames[0].line if frames else ""
            text = f"{type(error).__name__}: {error} [at {line}]"[:1500]
        self._report.say(self._name, text)
        return True


class Report:
    """The checks of one client over one transport."""

    def __init__(self, client: str, transport: str) -> None:
        self.client = client
        self.transport = transport

    def check(self, name: str) -> Check:
        """Opens a check."""
        return Check(self, name)

    def say(self, name: str, error: str | None) -> None:
        """Tells how a check ended."""
        line = {
            "client": self.client,
            "transport": self.transport,
            "check": name,
            "ok": error is None,
            "error": error,
        }
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def same(found: Any, wanted: Any) -> None:
    """Asserts that two values are equal, in their types as well: 1, 1.0 and True are different answers."""
    if not _same(found, wanted):
        raise AssertionError(f"{found!r} instead of {wanted!r}")


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return (
            isinstance(found, dict)
            and found.keys() == wanted.keys()
            and all(_same(found[key], value) for key, value in wanted.items())
        )
    if isinstance(wanted, list):
        return (
            isinstance(found, list)
            and len(found) == len(wanted)
            and all(_same(one, other) for one, other in zip(found, wanted))
        )
    return type(found) is type(wanted) and found == wanted


def raised(error: type[BaseException], text: str, call: Any, *arguments: Any, **named: Any) -> None:
    """Asserts that a call raises this, with exactly this text."""
    try:
        answer = call(*arguments, **named)
    except error as found:
        same(str(found), text)
    else:
        raise AssertionError(f"{answer!r} instead of {error.__name__}: {text}")
