"""A real server for the tests that need one, on a socket of its own, and clients of it."""

from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from producer.connection import connect
from producer.contract import Keys
from producer.embedded import EmbeddedServer


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    """One server for the whole run; every test has a queue of its own on it."""
    with EmbeddedServer() as running:
        yield running


@pytest.fixture
async def redis(server: EmbeddedServer) -> AsyncIterator[Redis]:
    """A connection to the server, which is empty at first."""
    client = connect(server.url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
def keys() -> Keys:
    """Names of the queue under test."""
    return Keys("test_model")
