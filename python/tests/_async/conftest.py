from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from hothouse import AsyncClient, AsyncSandbox

from ..server import Server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server.url) as client:
        yield client


@pytest.fixture
async def sandbox(client: AsyncClient) -> AsyncIterator[AsyncSandbox]:
    async with await client.create() as sandbox:
        yield sandbox
