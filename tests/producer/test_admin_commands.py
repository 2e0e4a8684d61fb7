"""The commands that manage a queue: what they print, as lines and as JSON, and their exit statuses."""

import json
from collections.abc import Callable, Iterator, Sequence

import pytest
from click.testing import CliRunner
from redis import Redis

from producer import SyncClient
from producer.cli.main import main
from producer.contract import Keys
from producer.embedded.services import EmbeddedServer

MODEL = "some/model"
KEYS = Keys("some_model")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def redis(server: EmbeddedServer) -> Iterator[Redis]:
    """The server, empty at first."""
    with Redis.from_url(server.url) as client:
        client.flushall()
        yield client


@pytest.fixture
def run(server: EmbeddedServer, redis: Redis) -> Run:
    """A `producer` command on the queue: its status, output and errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        command = [*arguments, "--model", MODEL, "--redis-url", server.url]
        done = CliRunner().invoke(main, command)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.stdout, done.stderr

    return run


def enqueue(server: EmbeddedServer, *texts: str, run: str | None = None, priority: str = "normal") -> str:
    """The id of a job with these texts."""
    with SyncClient(server.url, model=MODEL, run=run) as client:
        return client.submit(texts, priority=priority).job


def give_up(redis: Redis, code: str, *jobs: str, runs: Sequence[str] = ()) -> None:
    """Dead letters of this code, as a worker leaves them."""
    for job in jobs:
        facts = {"code": code, "message": "why", "tries": 3, **{f"run:{run}": 1 for run in runs}}
        redis.hset(KEYS.dead_letter(job), mapping=facts)
        redis.set(KEYS.dead_request(job), b"a request")
        redis.zadd(KEYS.dead_letters, {job: 1e12 + redis.zcard(KEYS.dead_letters)})  # type: ignore[operator]


def test_jobs(server: EmbeddedServer, run: Run) -> None:
    """As a table and as JSON, filtered alike."""
    assert run("jobs") == (0, "no jobs\n", "")
    job = enqueue(server, "a text", run="mine")
    enqueue(server, "another", priority="low")
    status, output, _ = run("jobs")
    assert status == 0
    assert output.count("pending") == 2
    arguments = ("--run", "mine", "--priority", "normal", "--state", "pending", "--json")
    status, output, _ = run("jobs", *arguments)
    [told] = json.loads(output)
    assert (told["job"], told["runs"], told["state"], told["num_texts"]) == (job, ["mine"], "pending", 1)
    assert run("jobs", "--older-than", "10m") == (0, "no jobs\n", "")
    assert len(json.loads(run("jobs", "--max", "1", "--json")[1])) == 1
    assert run("jobs", "--state", "gone")[0] == 2


def test_jobs_waits_for_a_run(server: EmbeddedServer, redis: Redis, run: Run) -> None:
    """0 once it has ended, 1 if some of its jobs were given up, 3 if it takes too long."""
    assert run("jobs", "--run", "gone", "--wait") == (0, "run gone: no jobs on the queue\n", "")
    give_up(redis, "tries_exhausted", "one", "two", runs=["mine"])
    status, output, _ = run("jobs", "--run", "mine", "--wait")
    assert (status, "; 2 jobs were given up" in output) == (1, True)
    status, output, _ = run("jobs", "--run", "mine", "--wait", "--json")
    assert (status, json.loads(output)) == (1, {"run": "mine", "ended": True, "dead_letters": 2})
    enqueue(server, "a text", run="mine")
    status, _, errors = run("jobs", "--run", "mine", "--wait", "--timeout", "0.2")
    assert status == 3
    assert "error [result_timeout]: run mine still has jobs on the queue after 0.2 s" in errors
    assert run("jobs", "--wait")[0] == run("jobs", "--run", "mine", "--timeout", "1s")[0] == 2


def test_purge(server: EmbeddedServer, redis: Redis, run: Run) -> None:
    """Only with --yes where nobody can be asked."""
    enqueue(server, "mine", run="mine")
    enqueue(server, "other", run="other")
    status, _, errors = run("purge")
    assert status == 2
    assert "give --yes" in errors
    assert run("purge", "--yes", "--run", "mine") == (0, "queue some_model: 1 pending jobs cancelled\n", "")
    assert run("purge", "--yes", "--run", "mine", "--dead")[0] == 2
    status, output, _ = run("purge", "--yes", "--json")
    assert (status, json.loads(output)) == (0, {"queue": "some_model", "cancelled": 1, "left": 0})
    give_up(redis, "internal_error", "a", "b")
    status, output, _ = run("purge", "--yes", "--dead", "--json")
    assert (status, json.loads(output)) == (0, {"queue": "some_model", "dropped": 2})
    assert not redis.exists(KEYS.dead_letters, KEYS.dead_letter("a"), KEYS.dead_request("b"))


def test_cancel_as_json(server: EmbeddedServer, run: Run) -> None:
    """By ids and by the run, with the statuses of the lines."""
    jobs = [enqueue(server, f"text {n}", run="mine") for n in range(2)]
    status, output, _ = run("cancel", jobs[0], "never-there", "--json")
    assert (status, json.loads(output)) == (1, {"cancelled": jobs[:1], "absent": ["never-there"]})
    status, output, _ = run("cancel", "--run", "mine", "--json")
    assert (status, json.loads(output)) == (0, {"run": "mine", "cancelled": 1, "left": 0})
    status, output, _ = run("cancel", "--run", "mine", "--json")
    assert (status, json.loads(output)) == (1, {"run": "mine", "cancelled": 0, "left": 0})


def test_pause_and_resume(redis: Redis, run: Run) -> None:
    """Resuming twice is fine, a time that is none is not."""
    assert run("pause") == (0, "queue some_model: paused until `producer resume`\n", "")
    status, output, _ = run("pause", "--for", "10m", "--json")
    told = {"queue": "some_model", "paused": True, "resumes_in_s": 600.0}
    assert (status, json.loads(output)) == (0, told)
    assert 590_000 < redis.pttl(KEYS.paused) <= 600_000  # type: ignore[operator]
    assert "paused for 1.5 h" in run("pause", "--for", "1.5h")[1]
    told = {"queue": "some_model", "paused": False, "was_paused": True}
    assert json.loads(run("resume", "--json")[1]) == told
    assert run("resume") == (0, "queue some_model: was not paused\n", "")
    for wrong in ("soon", "-1", "10 m", "1e3", "0"):
        status, _, errors = run("pause", f"--for={wrong}")
        assert status == 2, errors
    assert not redis.exists(KEYS.paused)


@pytest.mark.parametrize(("action", "done"), [("requeue", "requeued"), ("drop", "dropped")])
def test_dead_letters_by_code(redis: Redis, run: Run, action: str, done: str) -> None:
    """Those with the code and no others; 1 where none has it."""
    give_up(redis, "tries_exhausted", "a", "b")
    give_up(redis, "internal_error", "c")
    assert run("dead", action, "--code", "tries_exhausted") == (0, f"a: {done}\nb: {done}\n", "")
    assert redis.zrange(KEYS.dead_letters, 0, -1) == [b"c"]
    status, output, errors = run("dead", action, "--code", "tries_exhausted", "--json")
    assert (status, json.loads(output)) == (1, {done: [], "absent": []})
    assert errors == "no dead letters with the code tries_exhausted\n"
    status, output, _ = run("dead", action, "c", "never-there", "--json")
    assert (status, json.loads(output)) == (1, {done: ["c"], "absent": ["never-there"]})
    assert run("dead", action, "--all") == (0, "", "")
    for wrong in ((), ("a", "--all"), ("--all", "--code", "x"), ("a", "--code", "x")):
        assert run("dead", action, *wrong)[0] == 2
    assert redis.zcard(KEYS.pending) == (3 if action == "requeue" else 0)
