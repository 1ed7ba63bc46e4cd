"""What can go wrong: one class for each problem code of the API, and a few for what happens on this side of it.

Everything derives from `HothouseError`. What the server answered derives from `RequestError` (status 4xx) or
`ServerError` (5xx) as well; a code that this version does not know becomes one of these two.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Optional

from .shapes.lease import Ending, ending_of

if TYPE_CHECKING:
    from .shapes.exec import ExecResult


class HothouseError(Exception):
    """The base of every error of this package.

    `code`, `status` and `problem` are of the server's answer and None where the server said nothing; `detail` is a
    sentence for a person; `field` names the request field that is wrong, if one is. `resent` is True when the server
    may have acted on an earlier attempt of the same request, whose answer was lost. `retry_after_s` is how many seconds
    the server asks to wait before another attempt, 0 where it does not.
    """

    code: Optional[str] = None
    _by_code: ClassVar[dict[str, type[HothouseError]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        code = cls.__dict__.get("code")
        if code is not None:
            # The first class of a code is the one of this file; what a user derives from it is not made here.
            HothouseError._by_code.setdefault(code, cls)

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        status: int | None = None,
        field: str | None = None,
        problem: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        if code is not None:
            self.code = code
        self.status = status
        self.field = field
        self.problem = problem
        self.resent = False
        self.retry_after_s = 0.0

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}" if self.code else self.detail


class ConnectionFailed(HothouseError):
    """No answer came: the server is not there, or the connection broke.

    `maybe_received` is False when the server surely has not seen the request.
    """

    def __init__(self, detail: str, *, maybe_received: bool) -> None:
        super().__init__(detail)
        self.maybe_received = maybe_received


class LocalServerFailed(HothouseError):
    """A private server could not be started; `detail` carries what it said."""


class ExecFailed(HothouseError):
    """A command that was run with `check=True` did not exit with 0; `result` says what happened."""

    def __init__(self, result: ExecResult) -> None:
        told = result.stderr.strip().splitlines()
        super().__init__(str(result.outcome) + (f": {told[-1]}" if told else ""))
        self.result = result


class CodeFailed(HothouseError):
    """Code of a context that had to come to a value did not; `result` says what happened."""

    def __init__(self, result: ExecResult) -> None:
        error = result.error
        super().__init__(str(result.outcome) if error is None else error.traceback or f"{error.name}: {error.message}")
        self.result = result


class ArchiveRefused(HothouseError):
    """An archive from a sandbox has an entry that would reach outside the directory it is unpacked into."""


class RequestError(HothouseError):
    """The server refused the request: status 4xx."""


class ServerError(HothouseError):
    """The server failed at the request: status 5xx."""


class InvalidRequest(RequestError):
    """A field or parameter of the request is wrong; `field` names it."""

    code = "invalid_request"


class Forbidden(RequestError):
    """The server does not take this request from this caller."""

    code = "forbidden"


class Unauthorized(RequestError):
    """The server takes keys only, and this one is none of them: missing, wrong, revoked or expired."""

    code = "unauthorized"


class KeyRevoked(RequestError):
    """The key was taken away while the request ran; what it had begun in sandboxes goes on."""

    code = "key_revoked"


class RateLimited(RequestError):
    """The key's tenant sends more requests than it may. Sent again by itself, as late as the server asks."""

    code = "rate_limited"


class NotFound(RequestError):
    """The server has no such route, or the owner has no sandbox."""

    code = "not_found"


class MethodNotAllowed(RequestError):
    """The route does not take this method."""

    code = "method_not_allowed"


class SandboxNotFound(RequestError):
    """No sandbox has this id."""

    code = "sandbox_not_found"


class SandboxEnded(RequestError):
    """The sandbox has ended: it was deleted, its lease is over, …; `ending` says who ended it, when and why."""

    code = "sandbox_ended"

    @property
    def ending(self) -> Optional[Ending]:
        """How it ended; None where the server did not say."""
        ending = None if self.problem is None else self.problem.get("ending")
        return None if ending is None else ending_of(ending)


class SandboxExists(RequestError):
    """A sandbox has this id already."""

    code = "sandbox_exists"


class SandboxDead(RequestError):
    """The sandbox's guest is gone; it answers nothing but delete."""

    code = "sandbox_dead"


class SandboxFrozen(RequestError):
    """The sandbox is frozen; thaw it first."""

    code = "sandbox_frozen"


class ExecNotFound(RequestError):
    """The sandbox remembers no exec with this id."""

    code = "exec_not_found"


class ExecConflict(RequestError):
    """The exec's id was used for another command."""

    code = "exec_conflict"


class ExecFinished(RequestError):
    """The exec has ended, so it takes neither input nor signals."""

    code = "exec_finished"


class ShellNotFound(RequestError):
    """The sandbox has no shell session with this id."""

    code = "shell_not_found"


class ShellExists(RequestError):
    """A shell session has this id already."""

    code = "shell_exists"


class ShellBusy(RequestError):
    """The shell session runs a command."""

    code = "shell_busy"


class ContextNotFound(RequestError):
    """The sandbox has no context with this id."""

    code = "context_not_found"


class ContextExists(RequestError):
    """A context has this id already."""

    code = "context_exists"


class ContextBusy(RequestError):
    """The context runs code."""

    code = "context_busy"


class ContextEnded(RequestError):
    """The context's interpreter is gone; `detail` says why. Reset it, or close it."""

    code = "context_ended"


class TemplateNotFound(RequestError):
    """No template has this name."""

    code = "template_not_found"


class SnapshotNotFound(RequestError):
    """There is no snapshot with this id."""

    code = "snapshot_not_found"


class SnapshotExists(RequestError):
    """A snapshot has this id already."""

    code = "snapshot_exists"


class SnapshotInUse(RequestError):
    """Sandboxes are made of the snapshot."""

    code = "snapshot_in_use"


class SandboxRestored(RequestError):
    """The sandbox was set back while the request was under way; what it did is gone."""

    code = "sandbox_restored"


class ImageNotFound(RequestError):
    """The store has no such image."""

    code = "image_not_found"


class ImageInUse(RequestError):
    """Sandboxes are made of the image."""

    code = "image_in_use"


class ImageUnavailable(ServerError):
    """The image cannot be fetched from where it is."""

    code = "image_unavailable"


class TemplateInUse(RequestError):
    """A pool uses the template."""

    code = "template_in_use"


class PoolNotFound(RequestError):
    """No pool has this name."""

    code = "pool_not_found"


class PoolExists(RequestError):
    """A pool has this name already."""

    code = "pool_exists"


class PoolInUse(RequestError):
    """Sandboxes of the pool are claimed; drain it first."""

    code = "pool_in_use"


class PoolDraining(RequestError):
    """The pool drains and gives nothing any more."""

    code = "pool_draining"


class FileNotFound(RequestError):
    """Nothing is at this path of the sandbox."""

    code = "file_not_found"


class FileRefused(RequestError):
    """What is at this path cannot be used like that, e.g. a directory read as a file."""

    code = "file_refused"


class NoSpace(ServerError):
    """The sandbox's limit of bytes or files is reached."""

    code = "no_space"


class NotListening(ServerError):
    """Nothing listens in the sandbox where the request leads, or it takes no connections."""

    code = "not_listening"


class ConnectionBroken(ServerError):
    """What listens in the sandbox broke the connection off, or answered with something that is no answer."""

    code = "connection_broken"


class PatchRejected(RequestError):
    """The patch does not fit the files; nothing was changed."""

    code = "patch_rejected"


class TooLarge(RequestError):
    """The body is larger than the server takes."""

    code = "too_large"


class LimitExceeded(RequestError):
    """The server has as many connections, streams or waiting requests as it may. Sent again by itself."""

    code = "limit_exceeded"


class CapacityExceeded(RequestError):
    """The server has no room for it now; with `wait_s` it is waited for."""

    code = "capacity_exceeded"


class QuotaExceeded(RequestError):
    """The key's tenant has as much as it may; with `wait_s` it is waited for."""

    code = "quota_exceeded"


class IdempotencyConflict(RequestError):
    """The idempotency key was used for another request."""

    code = "idempotency_conflict"


class GroupNotFound(RequestError):
    """No group has this id, or all of its members have ended."""

    code = "group_not_found"


class GroupExists(RequestError):
    """A group has this id already."""

    code = "group_exists"


class ImageInvalid(RequestError):
    """The image cannot be used."""

    code = "image_invalid"


class SetupFailed(ServerError):
    """A line of the template's setup did not exit with 0; `detail` says which one and what it said."""

    code = "setup_failed"


class CreateFailed(ServerError):
    """The sandbox could not be made."""

    code = "create_failed"


class Unsupported(ServerError):
    """This machine cannot do that; `capabilities()` says why."""

    code = "unsupported"


class TimedOut(ServerError):
    """The server gave up waiting."""

    code = "timed_out"


class ShuttingDown(ServerError):
    """The server is about to end."""

    code = "shutting_down"


class Internal(ServerError):
    """The server made a mistake; its log says more."""

    code = "internal"


def class_of(code: str, status: int) -> type[HothouseError]:
    """The class for a code; for one that is not known the base class of its status."""
    known = HothouseError._by_code.get(code)
    if known is not None:
        return known
    if 400 <= status < 500:
        return RequestError
    return ServerError if status >= 500 else HothouseError


def problem_of(status: int, content: bytes) -> HothouseError:
    """The error for an answer with this status and body.

    A body that is no problem document comes from something between here and the server: it is shown as it is.
    """
    try:
        problem = json.loads(content)
    except ValueError:
        problem = None
    if not isinstance(problem, dict) or not isinstance(problem.get("code"), str):
        text = content[:500].decode("utf-8", "replace").strip()
        error = class_of("", status)
        return error(f"HTTP status {status}: {text or 'no body'}", status=status)
    return error_of(problem, status)


def error_of(problem: Mapping[str, Any], status: int | None = None) -> HothouseError:
    """The error for a problem document."""
    code = str(problem["code"])
    status = int(problem.get("status", 0)) if status is None else status
    return class_of(code, status)(
        str(problem.get("detail", "")),
        code=code,
        status=status,
        field=problem.get("field"),
        problem=problem,
    )
