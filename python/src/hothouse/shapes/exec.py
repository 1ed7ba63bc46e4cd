"""Execs: how they ended, what they wrote and used."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Optional, Union

from .context import Raised, Value, raised_of, value_of
from .slots import SLOTS

OutcomeKind = Literal["exited", "signalled", "timed_out", "oom_killed", "failed_to_start", "lost"]
OutputName = Literal["stdout", "stderr"]
Target = Literal["leader", "tree"]


def bytes_of(text: str, encoding: str) -> bytes:
    """Bytes that JSON carries as text, written in `encoding` (`utf-8` or `base64`)."""
    return base64.b64decode(text) if encoding == "base64" else text.encode()


def text_with_encoding(content: str | bytes) -> tuple[str, str]:
    """How JSON carries text or bytes: the text and its encoding."""
    if isinstance(content, str):
        return content, "utf-8"
    return base64.b64encode(content).decode("ascii"), "base64"


@dataclass(**SLOTS)
class Outcome:
    """How an exec ended.

    `code` (0 to 255) is there for `exited`, `signal` (its number) for `signalled`, `reason` (a sentence) for
    `failed_to_start` and `lost`.
    """

    kind: OutcomeKind
    code: Optional[int] = None
    signal: Optional[int] = None
    reason: Optional[str] = None

    def __str__(self) -> str:
        told = {
            "exited": f"exited with {self.code}",
            "signalled": f"ended by signal {self.signal}",
            "timed_out": "timed out",
            "oom_killed": "ended by the kernel: out of memory",
            "failed_to_start": f"failed to start: {self.reason}",
            "lost": f"lost: {self.reason}",
        }
        return told.get(self.kind, self.kind)


@dataclass(**SLOTS)
class Usage:
    """What an exec used: CPU time in seconds, and its largest resident set in bytes."""

    cpu_user_s: float
    cpu_system_s: float
    max_rss_bytes: int


@dataclass(**SLOTS)
class Truncated:
    """How many bytes fell out of the middle of each output because its limit was reached."""

    stdout_dropped_bytes: int
    stderr_dropped_bytes: int


@dataclass(**SLOTS)
class ExecResult:
    """What happened to one exec.

    `stdout` and `stderr` are text, with U+FFFD for what is not UTF-8; `stdout_bytes` and `stderr_bytes` are exact.
    `replayed` is True when an earlier request with the same id had run it: a retry did not run it again.
    `output_held_open` is True when a process that outlived the command could still have written.
    """

    exec_id: str
    outcome: Outcome
    stdout: str
    stderr: str
    truncated: Truncated
    output_held_open: bool
    duration_s: float
    usage: Usage
    replayed: bool
    _exact: Optional[tuple[bytes, bytes]] = field(default=None, repr=False)
    value: Optional[Value] = None
    """For code of a context: what its last expression came to."""
    error: Optional[Raised] = None
    """For code of a context: the exception that ended it."""
    displays: list[Mapping[str, str]] = field(default_factory=list)
    """For code of a context: what it showed, e.g. figures, by MIME type: see `data_of`."""
    omitted: list[str] = field(default_factory=list)
    """For code of a context: what was too large to be told."""

    @property
    def ok(self) -> bool:
        """True when it exited with 0."""
        return self.outcome.code == 0

    @property
    def code(self) -> int | None:
        """Its exit status, 0 to 255; None when it did not exit by itself."""
        return self.outcome.code

    @property
    def stdout_bytes(self) -> bytes:
        """Standard output, byte for byte."""
        return self.stdout.encode() if self._exact is None else self._exact[0]

    @property
    def stderr_bytes(self) -> bytes:
        """Standard error, byte for byte."""
        return self.stderr.encode() if self._exact is None else self._exact[1]


def outcome_of(body: Mapping[str, Any]) -> Outcome:
    """Reads an `Outcome`."""
    return Outcome(body["kind"], body.get("code"), body.get("signal"), body.get("reason"))


def result_of(body: Mapping[str, Any]) -> ExecResult:
    """Reads an `ExecResult`."""
    stdout, stderr = body["stdout"], body["stderr"]
    exact = None
    if body["encoding"] == "base64":
        exact = (base64.b64decode(stdout), base64.b64decode(stderr))
        stdout, stderr = exact[0].decode("utf-8", "replace"), exact[1].decode("utf-8", "replace")
    truncated, usage = body["truncated"], body["usage"]
    return ExecResult(
        body["exec_id"],
        outcome_of(body["outcome"]),
        stdout,
        stderr,
        Truncated(truncated["stdout_dropped_bytes"], truncated["stderr_dropped_bytes"]),
        body["output_held_open"],
        body["duration_s"],
        Usage(usage["cpu_user_s"], usage["cpu_system_s"], usage["max_rss_bytes"]),
        body["replayed"],
        exact,
        value_of(body.get("value")),
        raised_of(body.get("error")),
        body.get("displays", []),
        body.get("omitted", []),
    )


@dataclass(**SLOTS)
class ExecStatus:
    """One exec as lookups show it; `result` is there once `state` is `finished`.

    `stdout_bytes` and `stderr_bytes` are how many bytes it has written so far.
    """

    exec_id: str
    state: Literal["running", "finished"]
    result: Optional[ExecResult]
    stdout_bytes: int
    stderr_bytes: int


def status_of(body: Mapping[str, Any]) -> ExecStatus:
    """Reads an `ExecStatus`."""
    result = body.get("result")
    return ExecStatus(
        body["exec_id"],
        body["state"],
        None if result is None else result_of(result),
        body["stdout_bytes"],
        body["stderr_bytes"],
    )


@dataclass(**SLOTS)
class OutputPiece:
    """A piece of kept output.

    `offset` is where `data` begins: what was asked for, or later where bytes were not kept. `total` is how many bytes
    were written so far; `ended` is True when no more will come.
    """

    offset: int
    total: int
    ended: bool
    data: bytes


@dataclass(**SLOTS)
class Started:
    """The exec runs. `replayed` is True when an earlier request had started it."""

    exec_id: str
    replayed: bool


@dataclass(**SLOTS)
class Output:
    """Bytes that the exec wrote. Characters are not cut in two unless the exec itself did so."""

    stream: OutputName
    data: bytes

    @property
    def text(self) -> str:
        """The bytes as text, with U+FFFD for what is not UTF-8."""
        return self.data.decode("utf-8", "replace")


@dataclass(**SLOTS)
class Skipped:
    """So many bytes of an output were not kept, so they cannot be shown."""

    stream: OutputName
    bytes: int


@dataclass(**SLOTS)
class Finished:
    """The exec has ended. The result's `stdout` and `stderr` are empty: the events before carried them."""

    result: ExecResult


ExecEvent = Union[Started, Output, Skipped, Finished]


def event_of(name: str, body: Mapping[str, Any]) -> ExecEvent | None:
    """Reads an event; None for one that this version does not know."""
    if name == "stdout" or name == "stderr":
        return Output("stdout" if name == "stdout" else "stderr", bytes_of(body["data"], body["encoding"]))
    if name == "started":
        return Started(body["exec_id"], body["replayed"])
    if name == "skipped":
        return Skipped(body["stream"], body["bytes"])
    if name == "finished":
        return Finished(result_of(body))
    return None
