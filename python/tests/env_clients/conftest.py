from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..env.test_asgi import Served


class EnvServer:
    """A real `hothouse env serve`."""

    def __init__(self, binary: str, directory: Path, *arguments: str) -> None:
        log = directory / "log"
        command = [binary, "env", "serve", *arguments, "--port", "0", "--json", "--home", str(directory / "home")]
        with log.open("wb") as output:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=output)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, log.read_text()
        self.url: str = json.loads(line)["url"]

    def end(self, number: int = signal.SIGTERM) -> None:
        assert self.process.stdout is not None
        self.process.send_signal(number)
        self.process.wait(40)
        self.process.stdout.close()


@pytest.fixture(scope="session")
def echo(binary: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    running = EnvServer(binary, tmp_path_factory.mktemp("echo"), "echo")
    yield running.url
    running.end()


@pytest.fixture(scope="session")
def cartpole(binary: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Needs a package index, as gymnasium is installed where it runs."""
    running = EnvServer(binary, tmp_path_factory.mktemp("cartpole"), "gym:CartPole-v1")
    yield running.url
    running.end()


@pytest.fixture
def serve(binary: str, tmp_path: Path) -> Iterator[Callable[..., EnvServer]]:
    """Serves an environment, which the test may kill."""
    running: list[EnvServer] = []

    def serve(*arguments: str) -> EnvServer:
        running.append(EnvServer(binary, tmp_path, *arguments))
        return running[-1]

    yield serve
    for server in running:
        if server.process.poll() is None:
            server.end()


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that has one session for a connection and knows nothing else: uvicorn."""
    running = Served("tests.env.served:app", tmp_path_factory.mktemp("plain") / "log")
    yield f"http://{running.address}"
    running.end()
