"""A real server for the tests that need one, on a socket of its own, and clients of it."""

import logging
import pickle
from collections.abc import AsyncIterator, Iterator

import pytest
import structlog
from redis.asyncio import Redis
from support.redis_server import MISSING, SERVERS

from producer.contract import Keys
from producer.embedded.services import EmbeddedServer, find_server
from producer.transport.connect import connect


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the cache of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMBEDMILL_CACHE_PATH", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _logs() -> None:
    """Events as `caplog` can read them: `event key=value`; no level that an earlier test has set stays."""
    logging.getLogger().setLevel(logging.WARNING)
    fields = structlog.processors.LogfmtRenderer(bool_as_flag=False)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            lambda *event: f"{event[2].pop('event')} {fields(*event)}".rstrip(),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests marked `every_server` but not `first_server` run on each of SERVERS, all others on the first."""
    marked = metafunc.definition.get_closest_marker
    if "program" in metafunc.fixturenames and marked("every_server") and not marked("first_server"):
        first, *others = SERVERS
        names = [first, *(pytest.param(name, marks=pytest.mark.other_servers) for name in others)]
        metafunc.parametrize("program", names, indirect=True, scope="session")


@pytest.fixture(scope="session")
def program(request: pytest.FixtureRequest) -> str:
    """The server program of the test; where a test does not care, what is on PATH does not decide."""
    name = getattr(request, "param", None)
    if name is None:
        return next(iter(SERVERS.values()))() or find_server()
    return SERVERS[name]() or pytest.skip(MISSING[name])


@pytest.fixture(scope="session")
def server(program: str) -> Iterator[EmbeddedServer]:
    """One server for the whole run; every test has a queue of its own on it."""
    with EmbeddedServer(program=program) as running:
        yield running


@pytest.fixture
def no_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever unpickles fails: arq does by default, and what lies in Redis may be anybody's."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something was unpickled")

    monkeypatch.setattr(pickle, "loads", refuse)
    monkeypatch.setattr(pickle, "load", refuse)
    monkeypatch.setattr(pickle, "Unpickler", refuse)


@pytest.fixture
async def redis(server: EmbeddedServer, no_pickle: None) -> AsyncIterator[Redis]:
    """A connection to the server, which is empty at first."""
    client = connect(server.url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
def keys() -> Keys:
    """Names of the queue under test."""
    return Keys("test_model")
