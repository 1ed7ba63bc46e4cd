"""The zygote: imports what is to be served once, and forks a process for each connection."""

from __future__ import annotations

import gc
import json
import os
import random
import selectors
import signal
import socket
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, Optional

from ..env.app import App
from ..env.target import app_of
from .connection import Connection
from .failures import failure
from .frames import PROTOCOL, Said, framed

BACKLOG = 512
STDIN, STDOUT, STDERR = 0, 1, 2


def listening(path: str) -> socket.socket:
    """A socket that listens at a path, which appears when it does."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    early = f"{path}.{os.getpid()}"
    listener.bind(early)
    listener.listen(BACKLOG)
    Path(early).rename(path)
    return listener


def quieted() -> None:
    """Sends what authors print to stderr; their stdin is at its end."""
    sys.stdout.flush()
    os.dup2(STDERR, STDOUT)
    sys.stdout = sys.stderr


def hello_of(app: App) -> bytes:
    """The first frame of each connection: what is served."""
    told = {"protocol": PROTOCOL, "environment": app.about()}
    return framed(0, Said.HELLO, json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode())


class Zygote:
    """What is served, or why nothing is; and the processes that serve it."""

    def __init__(self, target: str) -> None:
        self._app: Optional[App] = None
        self._first = b""
        self._children: set[int] = set()
        try:
            app = app_of(target)
            if app.known_cls() is not None:
                # Else an instance has to be made to tell, which is for each process to do.
                self._first = hello_of(app)
            self._app = app
        except BaseException as error:  # noqa: BLE001
            # Whoever connects is told; even SystemExit is only the end of the import.
            traceback.print_exc()
            self._first = framed(0, Said.FAILED, failure(error))

    def serve(self, listener: socket.socket, ends_with_stdin: bool) -> None:
        """Takes connections until it is told to end. Those that there are go on."""
        told, tells = socket.socketpair()
        tells.setblocking(False)
        signal.set_wakeup_fd(tells.fileno(), warn_on_full_buffer=False)
        ends: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda signum, _: ends.append(signum))
        # Only so that the end of a child is told; without a handler it would not be.
        signal.signal(signal.SIGCHLD, lambda *_: None)
        if threading.active_count() > 1:
            others = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
            print(f"hothouse: imports have started threads, which no session will have: {others}", file=sys.stderr)
        # What was imported is shared with all children, as long as nobody counts through it.
        gc.collect()
        gc.freeze()
        with selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(told, selectors.EVENT_READ)
            if ends_with_stdin:
                selector.register(STDIN, selectors.EVENT_READ)
            while not ends:
                for key, _ in selector.select():
                    if key.fileobj is listener:
                        self._accept(listener, (told, tells))
                    elif key.fileobj is told:
                        told.recv(4096)
                        self._reap()
                    elif not os.read(STDIN, 4096):
                        ends.append(0)
        signal.set_wakeup_fd(-1)

    def _accept(self, listener: socket.socket, others: tuple[socket.socket, ...]) -> None:
        connection, _ = listener.accept()
        if self._app is None:
            with connection:
                _sent(connection, self._first)
            return
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                signal.set_wakeup_fd(-1)
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
                    signal.signal(number, signal.SIG_DFL)
                for each in (listener, *others):
                    each.close()
                serve(connection, self._app, self._first)
                status = 0
            except BaseException:  # noqa: BLE001
                # Nothing of the zygote's own code may run in a child.
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        self._children.add(child)
        connection.close()

    def _reap(self) -> None:
        for child in list(self._children):
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                self._children.discard(child)
                if status:
                    print(f"hothouse: the worker {child} ended: {_ending(status)}", file=sys.stderr)


def _ending(status: int) -> str:
    return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"status {os.WEXITSTATUS(status)}"


def serve(connection: socket.socket, app: App, hello: bytes = b"") -> None:
    """Serves one connection, in a process of its own, which ends with it."""
    reseeded()
    try:
        first = hello or hello_of(app)
    except BaseException as error:  # noqa: BLE001
        # The instance that has to tell what it is could not be made.
        traceback.print_exc()
        _sent(connection, framed(0, Said.FAILED, failure(error)))
        return
    if _sent(connection, first):
        Connection(connection, app, _leave).serve()


def _leave() -> None:
    sys.stderr.flush()
    # Not through the exits of the interpreter: what was registered there is the zygote's, and threads may still run.
    os._exit(0)


def _sent(connection: socket.socket, frame: bytes) -> bool:
    try:
        connection.sendall(frame)
    except OSError as error:
        print(f"hothouse: the connection ended before it began: {error}", file=sys.stderr)
        return False
    return True


def reseeded() -> None:
    """Gives this process random numbers of its own."""
    random.seed()
    numpy_random: Any = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
