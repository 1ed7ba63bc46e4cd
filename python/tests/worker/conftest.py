from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from .peer import ENVIRONMENTS, Peer, Worker


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """Starts a worker of a target."""
    workers: list[Worker] = []

    def started(target: str, *arguments: str, **variables: str) -> Worker:
        place = tmp_path / str(len(workers))
        place.mkdir()
        workers.append(Worker(target, place, *arguments, variables=variables))
        return workers[-1]

    yield started
    for worker in workers:
        worker.end()


@pytest.fixture
def peer_of(start: Callable[..., Worker]) -> Callable[[str], Peer]:
    """A connection to a worker of one of the environments here."""

    def connected(name: str) -> Peer:
        return start(f"{ENVIRONMENTS}:{name}").peer()

    return connected
