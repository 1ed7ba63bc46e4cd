"""Execs: commands of a sandbox that run by themselves and are looked up by their id."""

from __future__ import annotations

import time
from typing import Any

from ..bodies import encoded, segment, target
from ..errors import ExecNotFound
from ..retry import AnswerLate, Repeat
from ..shapes.exec import ExecResult, ExecStatus, OutputName, OutputPiece, Target, result_of, status_of
from .connection import Connection
from .stream import ExecStream

WAIT_S = 20.0
"""How long one lookup waits for the end; a longer wait is several, so that a server that is gone is noticed."""


async def wait_for(connection: Connection, path: str, timeout_s: float | None) -> ExecResult | None:
    """Waits for the end of the exec at this path; None when it still runs after `timeout_s` seconds."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        wait_s = WAIT_S if deadline is None else min(WAIT_S, max(deadline - time.monotonic(), 0.0))
        reply = await connection.send("GET", target(path, wait_s=round(wait_s, 3)), wait_s=wait_s)
        status = status_of(reply.json())
        if status.result is not None:
            return status.result
        if deadline is not None and time.monotonic() >= deadline:
            return None


async def run_to_end(connection: Connection, url: Any, body: dict[str, Any], path: str) -> ExecResult:
    """Runs a command that carries an id and waits for its end, however often the connection breaks meanwhile.

    `url` is where it is posted and `path` where it is looked up.
    """
    content = encoded(body)
    attempt = 0
    while True:
        try:
            return result_of((await connection.send("POST", url, content)).json())
        except AnswerLate as late:
            # It takes long, or the server is gone. Lookups answer now and then, so they tell which.
            error = late
        try:
            result = await wait_for(connection, path, None)
            assert result is not None
            return result
        except ExecNotFound:
            # The request never arrived; the id makes it safe to send it again even if it still does.
            attempt += 1
            if attempt > connection.retries:
                raise error from None


class AsyncExec:
    """A command of a sandbox, known by its id. Making one asks the server nothing."""

    def __init__(self, connection: Connection, sandbox_path: str, exec_id: str) -> None:
        self._connection = connection
        self._path = f"{sandbox_path}/execs/{segment(exec_id)}"
        self.id = exec_id

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    async def status(self) -> ExecStatus:
        """Looks it up. Raises `ExecNotFound` when the sandbox does not remember it (it keeps the last 1,024)."""
        return status_of((await self._connection.send("GET", self._path)).json())

    async def wait(self, timeout_s: float | None = None) -> ExecResult:
        """Waits for its end, at most `timeout_s` seconds.

        Raises the built-in `TimeoutError` when it still runs then; it runs on.
        """
        result = await wait_for(self._connection, self._path, timeout_s)
        if result is None:
            raise TimeoutError(f"exec {self.id} still runs after {timeout_s} s")
        return result

    async def signal(self, signal: int | str, *, target: Target = "tree") -> None:
        """Sends a signal, by number (1 to 64) or name (`TERM` or `SIGTERM`), to the whole tree or its leader.

        Raises `ExecFinished` when it has ended.
        """
        body = encoded({"signal": int(signal) if isinstance(signal, int) else signal, "target": target})
        await self._connection.send("POST", f"{self._path}/signal", body, repeat=Repeat.UNSEEN)

    async def write_stdin(self, data: str | bytes, *, close: bool = False) -> None:
        """Feeds standard input of an exec that was spawned with `stdin_open`; returns when all is in its pipe.

        `close=True` ends standard input after these bytes. It is never sent twice: when the connection breaks,
        `ConnectionFailed` says that nobody knows how much arrived. Raises `ExecFinished` when the exec has ended.
        """
        content = data.encode() if isinstance(data, str) else data
        path = f"{self._path}/stdin?close=true" if close else f"{self._path}/stdin"
        media_type = "application/octet-stream"
        await self._connection.send("POST", path, content, media_type=media_type, repeat=Repeat.UNSEEN)

    async def close_stdin(self) -> None:
        """Ends standard input."""
        await self.write_stdin(b"", close=True)

    async def output(
        self, stream: OutputName = "stdout", *, offset: int = 0, max_bytes: int | None = None
    ) -> OutputPiece:
        """Reads kept output from a byte offset, at most `max_bytes` (1 to 1,048,576; 65,536 when None).

        Works while it runs and after. Go on at `piece.offset + len(piece.data)`.
        """
        path = target(f"{self._path}/output", stream=stream, offset=offset, max=max_bytes)
        reply = await self._connection.send("GET", path)
        headers = reply.headers
        return OutputPiece(
            int(headers["hothouse-offset"]),
            int(headers["hothouse-total"]),
            headers["hothouse-ended"] == "true",
            reply.content,
        )

    async def resize(self, rows: int, cols: int) -> None:
        """Changes the size of its terminal, in lines and characters (1 to 10,000 each)."""
        await self._connection.send("POST", f"{self._path}/resize", encoded({"rows": rows, "cols": cols}))

    def stream(self, *, stdout_from: int = 0, stderr_from: int = 0) -> ExecStream:
        """Follows it from byte offsets in its outputs: see `ExecStream`."""
        resume = f"{stdout_from}-{stderr_from}"
        return ExecStream(self._connection, f"{self._path}/stream", resume=resume)
