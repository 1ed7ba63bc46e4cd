"""The private server: a child process of this one, shared by all that need it, gone when this process is.

A small shell stands between the two. It reads from a pipe that only this process holds, so it learns of this
process's end however that comes, SIGKILL included, and ends the server and removes its home. The kernel's own signal
at a parent's death is no replacement: it comes at the end of the *thread* that started the child.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from .errors import LocalServerFailed

BINARY_VARIABLE = "HOTHOUSE_BINARY"
SERVE = ("serve", "--listen", "127.0.0.1:0", "--json", "--on-exit", "destroy")
START_S = 30.0
"""How long a server may take until it listens."""
GRACE_S = 1.0
"""How long requests that still run may take at the end; nobody is left who waits for them."""
END_S = 15.0
"""How long the server may take to destroy its sandboxes before it is killed."""

GUARD = """\
home=$1; shift
trap : INT TERM HUP
"$@" < /dev/null &
server=$!
# The server alone holds its output now, so that the output's end says that it has ended.
exec > /dev/null
read -r _
kill -TERM "$server" 2> /dev/null
wait "$server"
if [ $? -gt 128 ]; then
  # It was killed, and its sandboxes outlive it: a successor finds them, and destroys them at its own end.
  "$@" < /dev/null > "$home/successor" &
  server=$!
  until [ -s "$home/successor" ] || ! kill -0 "$server" 2> /dev/null; do sleep 0.02; done
  kill -TERM "$server" 2> /dev/null
  wait "$server"
fi
rm -rf -- "$home"
"""


def binary() -> str:
    """The path of the program `hothouse`: `HOTHOUSE_BINARY`, else from `PATH`, else beside this package.

    Raises `LocalServerFailed` when there is none.
    """
    named = os.environ.get(BINARY_VARIABLE)
    if named:
        if not os.access(named, os.X_OK):
            raise LocalServerFailed(f"{BINARY_VARIABLE} is {named}, which is not a program")
        return named
    bundled = Path(__file__).parent / "bin" / "hothouse"
    found = shutil.which("hothouse") or (str(bundled) if os.access(bundled, os.X_OK) else None)
    if found is None:
        raise LocalServerFailed(
            "no program `hothouse` is in PATH or beside this package: install it, name it in "
            f"{BINARY_VARIABLE}, or name a running server in HOTHOUSE_SERVER"
        )
    return found


class LocalServer:
    """A running private server. Use `private_server()`, which shares one in the process.

    `serve` are the arguments of another command of `hothouse` that serves, and says where as `serve --json` does.
    """

    def __init__(self, serve: Sequence[str] = SERVE, start_s: float = START_S) -> None:
        program = binary()
        self.home = Path(tempfile.mkdtemp(prefix="hothouse-"))
        log = self.home / "log"
        command = [program, *serve, "--home", str(self.home / "home")]
        with log.open("wb") as stderr:
            self._guard = subprocess.Popen(
                ["/bin/sh", "-c", GUARD, "hothouse-guard", str(self.home), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                # A line for each request would fill the temporary directory of a process that lives for long.
                env={"HOTHOUSE_LOG": "warn", **os.environ},
                # Ctrl-C in a terminal is for this process, which ends the server in its own time.
                start_new_session=True,
            )
        self.owner = os.getpid()
        self.pid: int | None = None
        line = self._first_line(time.monotonic() + start_s)
        try:
            ready = json.loads(line)
            self.url: str = ready["url"]
            self.pid = ready["pid"]
        except (ValueError, KeyError, TypeError) as error:
            said = log.read_text("utf-8", "replace").strip()[-2000:]
            self.end()
            raise LocalServerFailed(f"`{program} {serve[0]}` did not start: {said or 'it said nothing'}") from error

    def _first_line(self, deadline: float) -> bytes:
        pipe = self._said()
        line = b""
        while not line.endswith(b"\n") and _readable(pipe, deadline - time.monotonic()):
            piece = os.read(pipe, 4096)
            if not piece:
                break
            line += piece
        return line

    def _said(self) -> int:
        assert self._guard.stdout is not None
        return self._guard.stdout.fileno()

    @property
    def alive(self) -> bool:
        """True while the server runs: it says nothing after its first line, so its output is readable at its end."""
        return self._guard.poll() is None and not _readable(self._said(), 0.0)

    def end(self) -> None:
        """Ends the server with all its sandboxes and removes its home. The second time nothing happens."""
        if self.owner != os.getpid():
            # A forked copy: the server is its parent's.
            return
        if self._guard.returncode is not None:
            return
        assert self._guard.stdin is not None
        assert self._guard.stdout is not None
        try:
            # A line, since a forked copy of this process may keep the pipe open.
            self._guard.stdin.write(b"\n")
            self._guard.stdin.close()
        except BrokenPipeError:
            # Somebody ended the guard; the server is ended by its pid below.
            pass
        if not self._ended_within(GRACE_S):
            self._signal(signal.SIGTERM)
            if not self._ended_within(END_S):
                self._signal(signal.SIGKILL)
                if not self._ended_within(END_S):
                    self._guard.kill()
                    self._guard.wait()
        self._guard.stdout.close()

    def _ended_within(self, seconds: float) -> bool:
        try:
            self._guard.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _signal(self, number: signal.Signals) -> None:
        # As long as it runs its pid is its own; afterwards it may be anybody's.
        if self.pid is None or not self.alive:
            return
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            # It ended just now, which is what was wanted.
            return


def _readable(pipe: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    return bool(poll.poll(max(seconds, 0.0) * 1000))


_lock = threading.Lock()
_shared: LocalServer | None = None


def private_server() -> LocalServer:
    """The private server of this process; the first caller starts it, which takes some tenths of a second.

    Raises `LocalServerFailed` with what the server said.
    """
    global _shared
    with _lock:
        if _shared is not None and not _shared.alive:
            atexit.unregister(_shared.end)
            _shared.end()
            _shared = None
        if _shared is None:
            _shared = LocalServer()
            atexit.register(_shared.end)
        return _shared


def end_private_server() -> None:
    """Ends the private server of this process before its end; whoever needs one next starts another."""
    global _shared
    with _lock:
        if _shared is not None:
            atexit.unregister(_shared.end)
            _shared.end()
            _shared = None
