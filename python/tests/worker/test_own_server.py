"""A package's own server, where its directory is, however it imports its own modules."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ..patience import until

APP = """
{imports}

async def app(scope, receive, send):
    assert scope["type"] == "http", scope
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": (WORD + " " + __name__).encode()}})
"""


def package(place: Path, imports: str) -> Path:
    directory = place / "mine"
    (directory / "server").mkdir(parents=True)
    for name in ("__init__.py", "server/__init__.py"):
        (directory / name).write_text("")
    (directory / "models.py").write_text("WORD = 'hello'\n")
    (directory / "server" / "app.py").write_text(APP.format(imports=imports))
    return directory


def started(directory: Path, path: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "hothouse.worker.own_server", "server.app:app", str(path)]
    environment = {"PYTHONPATH": f"{directory}:{directory.parent}:{':'.join(sys.path)}"}
    return subprocess.Popen(command, cwd=directory, env=environment, stderr=subprocess.PIPE)


def told(path: Path) -> str:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(path))
    connection.request("GET", "/")
    answer = connection.getresponse().read().decode()
    connection.close()
    return answer


@pytest.mark.parametrize(
    ("imports", "answer"),
    [
        ("from models import WORD", "hello server.app"),
        ("from ..models import WORD", "hello mine.server.app"),
        ("try:\n    from ..models import WORD\nexcept ImportError:\n    from models import WORD", "hello server.app"),
        ("from mine.models import WORD", "hello server.app"),
    ],
)
def test_a_package_is_served_however_it_imports_its_own_modules(tmp_path: Path, imports: str, answer: str) -> None:
    path = tmp_path / "socket"
    process = started(package(tmp_path, imports), path)
    try:
        until("it listens", lambda: path.exists() or process.poll() is not None)
        assert told(path) == answer
    finally:
        process.terminate()
        assert process.stderr is not None
        process.stderr.close()
        process.wait(20)


def test_what_cannot_be_imported_is_told(tmp_path: Path) -> None:
    process = started(package(tmp_path, "from nothing_of_this_name import WORD"), tmp_path / "socket")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"app.py" in errors
    assert b"No module named 'nothing_of_this_name'" in errors
