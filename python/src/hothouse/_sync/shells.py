# Generated from ../_async by generate_sync.py: edit that, then run it.
"""Shell sessions: a shell that keeps its directory and variables from command to command."""

from __future__ import annotations

from typing import Any

from ..bodies import encoded, given, new_id, segment
from ..errors import ExecFailed, ShellNotFound
from ..shapes.exec import ExecResult
from .connection import Connection
from .execs import run_to_end
from .stream import ExecStream


class Shell:
    """An open shell session; as a context manager it is closed at the end of the block."""

    def __init__(self, connection: Connection, sandbox_path: str, shell_id: str) -> None:
        self._connection = connection
        self._sandbox_path = sandbox_path
        self._path = f"{sandbox_path}/shells/{segment(shell_id)}"
        self.id = shell_id

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.close()
        except ShellNotFound:
            # The shell ended by itself (`exit`), which is as good.
            return

    def run(
        self,
        command: str,
        *,
        exec_id: str | None = None,
        timeout_s: float | None = None,
        output_limit_bytes: int | None = None,
        check: bool = False,
    ) -> ExecResult:
        """Runs a command line, which may span lines; the outcome `exited` carries the shell's `$?`.

        After `timeout_s` seconds the command is interrupted. Raises `ShellBusy` while another one runs, `ExecFailed`
        with `check=True` when it did not exit with 0. Sent again after a lost connection it does not run again.
        """
        body = self._body(command, exec_id, timeout_s, output_limit_bytes)
        lookup = f"{self._sandbox_path}/execs/{segment(body['exec_id'])}"
        result = run_to_end(self._connection, f"{self._path}/run", body, lookup)
        if check and not result.ok:
            raise ExecFailed(result)
        return result

    def stream(
        self,
        command: str,
        *,
        exec_id: str | None = None,
        timeout_s: float | None = None,
        output_limit_bytes: int | None = None,
    ) -> ExecStream:
        """Runs a command line and follows it: see `ExecStream`. It is started by the first step of the iteration."""
        body = self._body(command, exec_id, timeout_s, output_limit_bytes)
        follow = f"{self._sandbox_path}/execs/{segment(body['exec_id'])}/stream"
        start = (f"{self._path}/run?stream=true", encoded(body))
        return ExecStream(self._connection, follow, start=start)

    def _body(
        self, command: str, exec_id: str | None, timeout_s: float | None, output_limit_bytes: int | None
    ) -> dict[str, Any]:
        return given(
            exec_id=exec_id or new_id("ex"),
            command=command,
            timeout_s=timeout_s,
            output_limit_bytes=output_limit_bytes,
        )

    def interrupt(self) -> None:
        """Interrupts the command that it runs, as Ctrl-C does."""
        self._connection.send("POST", f"{self._path}/interrupt")

    def close(self) -> None:
        """Ends the session. Raises `ShellNotFound` when it has ended."""
        try:
            self._connection.send("DELETE", self._path)
        except ShellNotFound as error:
            if not error.resent:
                raise
