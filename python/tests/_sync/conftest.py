# Generated from ../_async by generate_sync.py: edit that, then run it.
from __future__ import annotations

from collections.abc import Iterator

import pytest

from hothouse import Client, Sandbox

from ..server import Server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


@pytest.fixture
def sandbox(client: Client) -> Iterator[Sandbox]:
    with client.create() as sandbox:
        yield sandbox
