from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hothouse import local

from .keys import Keys
from .server import CGROUP, Server, remove_cgroups


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(obj: object) -> None:
    """Marks every asynchronous test for the plugin that runs them, before that looks for its mark."""
    if inspect.iscoroutinefunction(obj):
        pytest.mark.anyio(obj)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def binary() -> str:
    """The program `hothouse`. These tests are worth nothing without it, so its absence fails them."""
    path = os.environ.get("HOTHOUSE_BINARY", "")
    if not os.access(path, os.X_OK):
        pytest.fail(f"HOTHOUSE_BINARY has to name the program hothouse; it is {path!r}", pytrace=False)
    return path


@pytest.fixture(scope="session", autouse=True)
def _environment(binary: str) -> Iterator[None]:
    # What the machine's user has set must not change what is tested.
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("HOTHOUSE_")]:
            patch.delenv(name)
        patch.setenv("HOTHOUSE_BINARY", binary)
        if os.geteuid() == 0:
            patch.setenv("HOTHOUSE_CGROUP", CGROUP)
        yield
    local.end_private_server()
    remove_cgroups()


@pytest.fixture(scope="session")
def server(binary: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(binary, tmp_path_factory.mktemp("server"))
    yield running
    running.stop()


@pytest.fixture
def start(binary: str, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts a server with these arguments, which the test may kill."""
    running: list[Server] = []

    def start(*arguments: str) -> Server:
        running.append(Server(binary, tmp_path, *arguments))
        return running[-1]

    yield start
    for server in running:
        server.stop()


@pytest.fixture
def keys(binary: str, tmp_path: Path) -> Keys:
    return Keys(binary, tmp_path / "keys.json")


@pytest.fixture
def own_server(binary: str, tmp_path: Path) -> Iterator[Server]:
    """One that the test may kill."""
    running = Server(binary, tmp_path)
    yield running
    running.stop()
