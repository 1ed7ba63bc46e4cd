"""Contexts: live Python interpreters of a sandbox, which keep their variables from run to run."""

from __future__ import annotations

from typing import Any

from ..bodies import encoded, given, new_id, segment
from ..errors import CodeFailed, ContextExists, ContextNotFound
from ..shapes.context import ContextInfo, context_of
from ..shapes.exec import ExecResult
from .connection import Connection
from .execs import run_to_end
from .stream import ExecStream


class AsyncContext:
    """An open context; as a context manager it is closed at the end of the block."""

    def __init__(self, connection: Connection, sandbox_path: str, context_id: str) -> None:
        self._connection = connection
        self._sandbox_path = sandbox_path
        self._path = f"{sandbox_path}/contexts/{segment(context_id)}"
        self.id = context_id

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    async def __aenter__(self) -> AsyncContext:
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self.close()
        except ContextNotFound:
            # Somebody closed it, which is as good.
            return

    async def run(
        self,
        code: str,
        *,
        exec_id: str | None = None,
        timeout_s: float | None = None,
        grace_s: float | None = None,
        output_limit_bytes: int | None = None,
        check: bool = False,
    ) -> ExecResult:
        """Runs code. The result's `value` is what its last expression came to, `error` the exception that ended it.

        After `timeout_s` seconds it gets a `KeyboardInterrupt`; when it does not give way to that within `grace_s` (2)
        seconds its interpreter is ended. Raises `ContextBusy` while other code runs, `ContextEnded` when the
        interpreter is gone (see `reset`), and with `check=True` `CodeFailed` when an exception or the timeout ended the
        code. Sent again after a lost connection it does not run again.
        """
        body = self._body(code, exec_id, timeout_s, grace_s, output_limit_bytes)
        lookup = f"{self._sandbox_path}/execs/{segment(body['exec_id'])}"
        result = await run_to_end(self._connection, f"{self._path}/run", body, lookup)
        if check and not result.ok:
            raise CodeFailed(result)
        return result

    async def eval(self, code: str, *, timeout_s: float | None = None) -> Any:
        """What the last expression of code comes to, as a value of this process; None when there is none.

        Raises `CodeFailed` when an exception or the timeout ends it, `TypeError` for a value that JSON does not have or
        that is too large: `run` gives its `repr` and other forms.
        """
        result = await self.run(code, timeout_s=timeout_s, check=True)
        if result.value is None:
            return None
        if not result.value.is_plain:
            raise TypeError(f"not a value that JSON has: {result.value.repr[:200]}")
        return result.value.json

    def stream(
        self,
        code: str,
        *,
        exec_id: str | None = None,
        timeout_s: float | None = None,
        grace_s: float | None = None,
        output_limit_bytes: int | None = None,
    ) -> ExecStream:
        """Runs code and follows it: see `ExecStream`. It is started by the first step of the iteration."""
        body = self._body(code, exec_id, timeout_s, grace_s, output_limit_bytes)
        follow = f"{self._sandbox_path}/execs/{segment(body['exec_id'])}/stream"
        start = (f"{self._path}/run?stream=true", encoded(body))
        return ExecStream(self._connection, follow, start=start)

    def _body(
        self,
        code: str,
        exec_id: str | None,
        timeout_s: float | None,
        grace_s: float | None,
        output_limit_bytes: int | None,
    ) -> dict[str, Any]:
        return given(
            exec_id=exec_id or new_id("ex"),
            code=code,
            timeout_s=timeout_s,
            grace_s=grace_s,
            output_limit_bytes=output_limit_bytes,
        )

    async def fork(self, *, context_id: str | None = None) -> AsyncContext:
        """Another context that begins with everything that this one has: variables, modules, open files.

        Neither notices what the other does from then on; random numbers differ, threads do not come along. Takes
        milliseconds. Raises `ContextBusy` while code runs.
        """
        own_id = context_id or new_id("py")
        await self._fork({"context_id": own_id}, is_ours=context_id is None)
        return AsyncContext(self._connection, self._sandbox_path, own_id)

    async def forks(self, count: int) -> list[AsyncContext]:
        """So many forks (at most 63), all or none."""
        own_id = new_id("py")
        await self._fork({"context_id": own_id, "count": count}, is_ours=True)
        numbers = range(1, count + 1)
        return [AsyncContext(self._connection, self._sandbox_path, f"{own_id}-{number}") for number in numbers]

    async def _fork(self, body: dict[str, Any], *, is_ours: bool) -> None:
        try:
            await self._connection.send("POST", f"{self._path}/fork", encoded(body))
        except ContextExists as error:
            # Made by an attempt whose answer was lost: nobody else knows an id that was made here.
            if not is_ours or not error.resent:
                raise

    async def info(self) -> ContextInfo:
        """What it is doing; when its interpreter is gone, why."""
        return context_of((await self._connection.send("GET", self._path)).json())

    async def interrupt(self) -> None:
        """Interrupts the code that it runs: a `KeyboardInterrupt` in it."""
        await self._connection.send("POST", f"{self._path}/interrupt")

    async def reset(self) -> None:
        """Ends its interpreter, whatever that does, and starts a fresh one in its place."""
        await self._connection.send("POST", f"{self._path}/reset")

    async def close(self) -> None:
        """Ends it and everything that was started in it. Raises `ContextNotFound` when there is none."""
        try:
            await self._connection.send("DELETE", self._path)
        except ContextNotFound as error:
            if not error.resent:
                raise
