"""The supervisor over HTTP: metrics for Prometheus, health for probes."""

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis
from support.paths import ROOT
from support.programs import READY, Programs, wait_for
from support.serving import MODEL, worker
from support.worker_process import process

from producer import Client, EmbedOptions
from producer.contract import JOB_FAILURES, TEXT_FAILURES, Keys, build_request, queue_name
from producer.embedded.services import EmbeddedServer
from producer.errors import JobFailed, SettingsError
from producer.queue.enqueue import QueueLimits, prepare_job, submit
from producer.transport.connect import connect
from producer.transport.retry import OutageBudget
from worker.backends.fake import FakeBackend
from worker.batching.batcher import Batcher
from worker.batching.pace import Pace
from worker.batching.packing import Budget
from worker.batching.runner import Runner
from worker.consumer.handback import new_owner
from worker.consumer.heartbeat import Heartbeat
from worker.consumer.leases import Leases
from worker.contract import Tokens
from worker.supervisor.collector import SupervisorCollector
from worker.supervisor.http_server import serve_http
from worker.telemetry.activity import Activity
from worker.telemetry.counters import SECONDS, Counters, Histogram
from worker.telemetry.events import BatchEvent
from worker.telemetry.prometheus import (
    PREFIX,
    PROFILE_INFO,
    QUEUE_METRICS,
    QUEUE_UP,
    STATES,
    SUPERVISOR_METRICS,
    WORKER_METRICS,
)

KEYS = Keys(queue_name(MODEL))
LABELS = {"model": MODEL, "device": "cpu"}
ANSWER = (
    "import json\nlabels = ('device_name', 'profile', 'profile_id', 'backend', 'precision')\n"
    "report = json.dumps({'state': 'serving', 'profile': dict.fromkeys(labels, 'x'),"
    " 'profiles_failed': ['bad'], 'numbers': NUMBERS}).encode()\n"
)


def get(port: int, path: str, **headers: str) -> tuple[int, str]:
    """Status and body."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


class Scrape:
    """The samples of one scrape, by name and labels."""

    def __init__(self, port: int) -> None:
        status, text = get(port, "/metrics")
        assert status == 200
        families = list(text_string_to_metric_families(text))
        self.names = {family.name for family in families}
        self.samples = [sample for family in families for sample in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        wanted = {**LABELS, **labels} if not name.startswith("queue_") else {"model": MODEL, **labels}
        [value] = [one.value for one in self.samples if (one.name, one.labels) == (PREFIX + name, wanted)]
        return value


def scrape_when_serving(port: int) -> Scrape:
    """Once its worker process answers: on a busy machine that may take a moment."""
    scrapes: list[Scrape] = []

    def serves() -> bool:
        scrapes.append(Scrape(port))
        return scrapes[-1]("worker_state", state="serving") == 1

    wait_for(serves)
    return scrapes[-1]


def port_of(log: Path) -> int:
    """The port that the system chose; unless told otherwise it is open to this machine only."""
    found = re.search(r"metrics_served host=127\.0\.0\.1 port=(\d+)", log.read_text())
    assert found
    return int(found[1])


@pytest.mark.parametrize(
    ("section", "known"),
    [("Failures of single texts", TEXT_FAILURES), ("Failures of whole jobs", JOB_FAILURES)],
)
def test_every_documented_code_is_counted_from_the_start(section: str, known: tuple[str, ...]) -> None:
    """At zero, so that a rate sees the first one; and nothing else is."""
    page = (ROOT / "docs/reference/errors.md").read_text()
    rows = page.partition(f"## {section}\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.+?) \|", rows, re.MULTILINE)
    assert sorted(known) == sorted(code for cell in cells for code in re.findall(r"`(\w+)`", cell))
    counted = Counters().numbers()
    zeros = {**counted["texts_failed"], **counted["jobs"]}
    assert {code: zeros[code] for code in known} == dict.fromkeys(known, 0)


async def test_everything_done_is_in_the_metrics(
    redis: Redis, server: EmbeddedServer, tmp_path: Path
) -> None:
    """Texts, tokens, failures by code, truncations, batches and the queue, each as it was."""
    with process(tmp_path / "log", server.url, metrics_port=0):
        async with Client(server.url, model=MODEL) as client:
            reply = await client.embed(["a text", "word " * 2000, 7], EmbedOptions(truncate="END"))
            with pytest.raises(JobFailed):
                await client.embed(["a text"], EmbedOptions(dimensions=7))
        seen = await asyncio.to_thread(scrape_when_serving, port_of(tmp_path / "log"))
    num_tokens = int(reply.token_counts.sum())
    assert (seen("texts_total"), seen("tokens_total"), seen("texts_truncated_total")) == (2, num_tokens, 1)
    assert seen("texts_failed_total", code="not_a_string") == 1
    assert (seen("jobs_total", code="ok"), seen("jobs_total", code="invalid_option")) == (1, 1)
    assert (seen("job_tries_total"), seen("leases_lost_total")) == (2, 0)
    assert (seen("batch_texts_total"), seen("batch_tokens_total")) == (2, num_tokens)
    assert seen("batch_tokens_total") <= seen("batch_cost_tokens_total") <= seen("batch_budget_tokens_total")
    assert seen("batches_total") == seen("batch_seconds_count") == seen("batch_fill_ratio_count") > 0
    assert 0 < seen("device_busy_seconds_total") <= seen("batch_seconds_sum")
    stages = {stage: seen("job_stage_seconds_sum", stage=stage) for stage in ("prepare", "device", "answer")}
    assert all(seconds > 0 for seconds in stages.values())
    assert sum(stages.values()) <= seen("job_seconds_sum")
    assert seen("queue_jobs_total", outcome="done") == 2
    assert (seen("queue_up"), seen("queue_pending_jobs"), seen("queue_age_seconds")) == (1, 0, 0)
    assert [one.labels["profile"] for one in seen.samples if one.name == "embedmill_profile_info"] == ["fake"]


async def test_a_restart_is_seen_and_survived(redis: Redis, server: EmbeddedServer, tmp_path: Path) -> None:
    """The endpoint answers while the worker process is away; the next one has the same labels."""
    with process(tmp_path / "log", server.url, metrics_port=0) as supervisor:
        port = port_of(tmp_path / "log")
        wait_for(lambda: get(port, "/v1/health/ready")[0] == 200)
        [child] = psutil.Process(supervisor.pid).children()
        child.kill()
        wait_for(lambda: get(port, "/health/ready")[0] == 503)
        assert get(port, "/health/live")[0] == 200
        assert Scrape(port)("worker_state", state="serving") == 0
        seen = await asyncio.to_thread(scrape_when_serving, port)
        supervisor.send_signal(signal.SIGTERM)
        assert supervisor.wait(20) == 0
    assert (seen("worker_starts_total"), seen("worker_state", state="serving")) == (2, 1)
    assert seen("texts_total") == 0


@contextmanager
def endpoint(*programs: str, redis_url: str = "unix:///nowhere") -> Iterator[tuple[int, Programs]]:
    """The port of an HTTP server over one device, whose worker processes are these programs."""
    numbers = repr(json.loads(json.dumps(Counters().numbers())))
    worker = Programs(*(program.replace("NUMBERS", numbers) for program in programs))
    supervised = worker.process()
    collector = SupervisorCollector(MODEL, {"cpu": supervised}, redis_url=redis_url, keys=KEYS)
    thread = threading.Thread(target=supervised.run)
    with serve_http(collector, host="127.0.0.1", port=0) as port:
        thread.start()
        try:
            yield port, worker
        finally:
            supervised.stop()
            thread.join(20)


def test_probes_of_all_kinds_are_answered() -> None:
    """Kubernetes, NIM, TEI and vLLM ask on different paths; before it serves the host is live, not ready."""
    with endpoint("import time; time.sleep(60)") as (port, _):
        wait_for(lambda: json.loads(get(port, "/health/live")[1])["workers"] == {"cpu": "starting"})
        assert [get(port, path)[0] for path in ("/health/live", "/v1/health/live")] == [200, 200]
        for path in ("/health", "/health/ready", "/v1/health/ready"):
            status, body = get(port, path)
            assert (status, json.loads(body)["message"]) == (503, "not ready")
        assert get(port, "/metrics?name=x")[0] == get(port, "/v1/metrics")[0] == 200
        assert get(port, "/metrics", Accept="application/openmetrics-text")[1].endswith("# EOF\n")
        assert get(port, "/v1/embeddings")[0] == 404
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.sendall(b"HEAD /health/live HTTP/1.0\r\n\r\n")
            head = b"".join(iter(lambda: raw.recv(4096), b""))
        assert head.startswith(b"HTTP/1.0 200 OK")
        assert head.endswith(b"\r\n\r\n")


def test_an_answer_that_comes_too_late_is_not_taken_for_the_next() -> None:
    """A worker that was silent for a while is live again, and only its latest answer counts."""
    program = (
        READY + "\n" + ANSWER + "first = os.read(0, 1)[0]; second = os.read(0, 1)[0]\n"
        "os.write(0, b'%d %s\\n%d %s\\n' % (first, report.replace(b'serving', b'hung'), second, report))\n"
        "os.read(0, 1)\n"
    )
    with endpoint(program) as (port, _):
        wait_for(lambda: get(port, "/health/live")[0] == 503)
        status, body = get(port, "/health/live")
        assert (status, json.loads(body)["workers"]) == (200, {"cpu": "serving"})


def test_without_redis_the_rest_is_exported() -> None:
    """A scrape takes bounded time and says that the queue did not answer."""
    answer = READY + "\n" + ANSWER + "while q := os.read(0, 1): os.write(0, b'%d %s\\n' % (q[0], report))"
    with endpoint(answer) as (port, _):
        wait_for(lambda: get(port, "/health/ready")[0] == 200)
        started_s = time.monotonic()
        seen = Scrape(port)
        assert time.monotonic() - started_s < 10
    assert seen("queue_up") == 0
    assert (seen("texts_total"), seen("worker_state", state="serving")) == (0, 1)
    assert seen("profile_failed", profile="bad") == 1
    assert PREFIX + "queue_pending_jobs" not in seen.names


def test_a_taken_port_is_refused_with_the_setting_s_name() -> None:
    """A worker that cannot be monitored as asked does not start."""
    collector = SupervisorCollector(MODEL, {}, redis_url="unix:///nowhere", keys=KEYS)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"port {port}: .* EMBEDMILL_METRICS_PORT"):
            serve_http(collector, host="127.0.0.1", port=port).__enter__()


def test_no_port_is_opened_unasked(server: EmbeddedServer, tmp_path: Path) -> None:
    """Without the setting neither the supervisor nor its workers listen."""
    with process(tmp_path / "log", server.url) as supervisor:
        family = [psutil.Process(supervisor.pid), *psutil.Process(supervisor.pid).children()]
        kinds = {link.status for one in family for link in one.net_connections(kind="inet")}
    assert psutil.CONN_LISTEN not in kinds


async def test_a_job_that_was_just_finished_is_no_lost_lease(
    redis: Redis, server: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """However many heartbeats fall between a job's ending and its worker's hearing of it."""
    async with worker(server.url, lease_s=0.3), Client(server.url, model=MODEL) as client:
        for n in range(300):
            await client.embed([f"text {n}"])
    assert "lease_lost" not in caplog.text


async def test_a_lease_that_another_worker_has_is_lost_once(redis: Redis, server: EmbeddedServer) -> None:
    """However often the heartbeat sees that it is gone; one that is ours is not lost."""
    ours, other = (Leases(redis, KEYS, worker=new_owner(), lease_s=0.3) for _ in range(2))
    for text in ("one", "two"):
        prepared = prepare_job(build_request(MODEL, [text], EmbedOptions()))
        await submit(redis, KEYS, prepared, limits=QueueLimits(), keep_result_s=60)
    [(lost, _), (kept, _)] = await ours.claim(2, 1000)
    await redis.zadd(KEYS.leases, {lost.job: 1})  # long run out
    [(again, _)] = await other.claim(1, 1000)
    assert again.job == lost.job
    told: list[str] = []
    heartbeat = Heartbeat(
        ours,
        connect(server.url),
        lease_s=0.3,
        on_lost=told.append,
        on_death=lambda error: None,
    )
    with closing(heartbeat):
        heartbeat.hold(lost)
        heartbeat.hold(kept)
        await asyncio.sleep(0.8)
    assert told == [lost.job]


@pytest.mark.parametrize(
    ("trouble", "expected"),
    [("none", "serving"), ("hang", "hung"), ("refused", "disconnected"), ("silent", "disconnected")],
)
async def test_a_worker_knows_what_ails_it(
    redis: Redis, server: EmbeddedServer, trouble: str, expected: str
) -> None:
    """A hang is cured by a restart; a Redis that has gone, or is silent, is not."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        urls = {"refused": "unix:///nowhere", "silent": f"redis://127.0.0.1:{silent.getsockname()[1]}"}
        heartbeat = Heartbeat(
            Leases(redis, KEYS, worker=new_owner(), lease_s=0.3),
            connect(urls.get(trouble, server.url), timeout_s=1.0, outage_budget=OutageBudget(0)),
            lease_s=0.3,
            on_lost=lambda job: None,
            on_death=lambda error: None,
            max_silence_s=0.4,
            hung=lambda: trouble == "hang",
        )
        with closing(heartbeat):
            await asyncio.sleep(0.7)
            assert heartbeat.state == expected


async def test_busy_time_is_counted_once() -> None:
    """Two batches are in flight at once: their busy times add up to the time the device had work."""
    events: list[BatchEvent] = []
    batcher = Batcher(Budget(max_tokens=64, max_texts=8, padded=True), dim=8)
    backend = FakeBackend(dim=8, max_text_tokens=64, padded=True, max_batch_tokens=64, delay_s=0.005)
    device = Runner(
        backend,
        batcher,
        pace=Pace(1e6),
        activity=Activity(30),
        on_batch=events.append,
        on_death=lambda error: None,
    )
    lengths = np.arange(1, 33, dtype=np.int32)
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    started_s = time.perf_counter()
    await batcher.embed(Tokens(np.ones(int(offsets[-1]), dtype=np.int32), offsets))
    batcher.close(RuntimeError("done"))
    device.close()
    seconds = time.perf_counter() - started_s
    assert sum(one.busy_s for one in events) <= seconds
    assert all(0 < one.busy_s <= one.seconds for one in events)
    assert sum(one.num_tokens for one in events) == int(offsets[-1])
    assert all(one.num_tokens <= one.cost_tokens <= one.budget_tokens == 64 for one in events)


@given(st.lists(st.floats(0, 10_000)))
def test_a_histogram_counts_each_value_once(values: list[float]) -> None:
    """In the first bucket whose bound it does not exceed, or beyond all of them."""
    histogram = Histogram(SECONDS)
    for value in values:
        histogram.observe(value)
    expected = [0] * (len(SECONDS) + 1)
    for value in values:
        expected[bisect_left(SECONDS, value)] += 1
    assert histogram.counts == expected
    assert histogram.total == pytest.approx(sum(values))


def test_everything_counted_is_exported() -> None:
    """A field added to the counters needs a metric, and a metric a field."""
    assert {spec.field for spec in WORKER_METRICS} == set(Counters().numbers())


def test_every_metric_is_explained() -> None:
    """docs/reference/metrics.md has a row for each metric and no others, and every state of a worker."""
    text = (ROOT / "docs/reference/metrics.md").read_text()
    documented = re.findall(r"^\| `(embedmill_\w+)`", text, re.MULTILINE)
    exported = (*WORKER_METRICS, *QUEUE_METRICS, *SUPERVISOR_METRICS, PROFILE_INFO, QUEUE_UP)
    names = [PREFIX + spec.name + ("_total" if spec.kind == "counter" else "") for spec in exported]
    assert sorted(documented) == sorted(names)
    assert all(f"`{state}`" in text for state in STATES)


def test_the_supervisor_loads_no_metrics_library_unasked() -> None:
    """Without a metrics port it loads neither prometheus_client nor an HTTP server."""
    program = (
        "import sys; import worker.cli.main, worker.supervisor.supervisor\n"
        "print(*{'prometheus_client', 'http.server'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
