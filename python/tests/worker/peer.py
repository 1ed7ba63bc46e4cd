"""The server's side of a worker's socket, and a worker to be at the other end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Optional

from hothouse.worker.frames import FROM_WORKER, TO_WORKER, Asked, Said

from ..patience import PATIENCE_S, until

PYTHON_DIR = Path(__file__).resolve().parents[2]
ENVIRONMENTS = "tests.worker.environments"


class Answer:
    """One frame of a worker."""

    def __init__(self, request: int, kind: int, payload: bytes) -> None:
        self.request = request
        self.kind = Said(kind)
        self.payload = payload

    def __repr__(self) -> str:
        return f"Answer({self.request}, {self.kind.name}, {self.payload!r})"

    @property
    def value(self) -> Any:
        return json.loads(self.payload)

    @property
    def seen(self) -> dict[str, Any]:
        """An observation: its fields, and `reward`, `done` and `metadata` beside them."""
        assert self.kind is Said.DONE, self
        fields, reward, done, metadata = (json.loads(line) for line in self.payload.split(b"\n"))
        return {**fields, "reward": reward, "done": done, "metadata": metadata}


class Peer:
    """A connection to a worker."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(PATIENCE_S)
        self._next = 0
        self._kept: dict[int, Answer] = {}

    def send(self, session: int, kind: Asked, payload: Any = b"") -> int:
        """Sends a request; gives its number."""
        number, frame = self.framed(session, kind, payload)
        self.sock.sendall(frame)
        return number

    def framed(self, session: int, kind: int, payload: Any = b"") -> tuple[int, bytes]:
        self._next += 1
        said = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        return self._next, TO_WORKER.pack(len(said), self._next, session, kind) + said

    def next(self) -> Answer:
        """The next answer, whosever it is."""
        length, request, kind = FROM_WORKER.unpack(self._exactly(FROM_WORKER.size))
        return Answer(request, kind, self._exactly(length))

    def answer(self, number: int) -> Answer:
        """The answer to a request; those of others are kept."""
        while number not in self._kept:
            answer = self.next()
            self._kept[answer.request] = answer
        return self._kept.pop(number)

    def ask(self, session: int, kind: Asked, payload: Any = b"") -> Answer:
        """Sends a request and waits for its answer."""
        return self.answer(self.send(session, kind, payload))

    def opened(self, *sessions: int) -> None:
        """Opens sessions."""
        # Not too many at a time: who sends without reading has nobody left who reads.
        for begin in range(0, len(sessions), 200):
            for number in [self.send(session, Asked.OPEN) for session in sessions[begin : begin + 200]]:
                answer = self.answer(number)
                assert (answer.kind, answer.payload) == (Said.DONE, b""), answer

    def _exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            piece = self.sock.recv(count - len(data))
            if not piece:
                raise EOFError(f"the worker ended after {bytes(data)!r}")
            data += piece
        return bytes(data)

    def close(self) -> None:
        self.sock.close()


class Worker:
    """`python -m hothouse.worker`, as a server starts it."""

    def __init__(
        self, target: str, directory: Path, *arguments: str, variables: Optional[dict[str, str]] = None
    ) -> None:
        self.path = directory / "worker.sock"
        self.log = directory / "worker.log"
        self._peers: list[Peer] = []
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "hothouse.worker", target, "--socket", str(self.path), *arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=PYTHON_DIR,
                env={**os.environ, **(variables or {})},
            )

    def connect(self) -> tuple[Peer, Answer]:
        """A connection, and the first that comes on it."""
        until("the worker's socket", lambda: self.path.exists() or self.process.poll() is not None)
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(self.path))
        peer = Peer(sock)
        self._peers.append(peer)
        return peer, peer.next()

    def peer(self) -> Peer:
        """A connection after its greeting."""
        peer, hello = self.connect()
        assert hello.kind is Said.HELLO, hello
        return peer

    def children(self) -> list[str]:
        """The processes that serve connections."""
        pid = self.process.pid
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()

    def said(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def end(self) -> int:
        for peer in self._peers:
            peer.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(PATIENCE_S)
        if self.process.stdin is not None:
            self.process.stdin.close()
        return status
