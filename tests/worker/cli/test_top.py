"""`worker top`: rates from what workers tell, a screen that fits, and a command that ends quietly."""

import asyncio
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import StringIO

import pytest
from redis.asyncio import Redis
from rich.console import Console
from support.serving import MODEL, worker

from producer import Client
from producer.contract import WorkerRecord
from producer.embedded.services import EmbeddedServer
from producer.queue.status import QueueStatus
from worker.cli.rates import Rates
from worker.cli.top_view import queues_json, screen

WORKER = WorkerRecord(
    name="gpu-worker-7d9c5b8f6-abcde:4711:0123abcd",
    host="gpu-worker-7d9c5b8f6-abcde",
    pid=4711,
    device="NVIDIA H100 80GB HBM3",
    model="m",
    revision="r",
    profile="h100-hbm3-80gb-fp8-tensorrt",
    profile_id="0" * 64,
    precision="fp8",
    reason="",
    ready_for_s=100.0,
    jobs_done=10,
    texts_done=1000,
    tokens_done=100_000,
    failures={"not_a_string": 2, "text_too_long": 1},
    profiles_failed={"other": "its vectors\nare off"},
    batches=20,
    batch_texts=1000,
    batch_tokens=100_000,
    batch_cost_tokens=125_000,
    batch_budget_tokens=250_000,
    busy_s=60.0,
)
QUEUE = QueueStatus(
    queue="nvidia_llama_nemotron_embed_1b_v2",
    paused=False,
    resumes_in_s=None,
    pending=123_456,
    running=64,
    num_bytes=1_234_567_890,
    next_age_s=5400.0,
    done=1000,
    failed=1,
    cancelled=0,
    lost_leases=0,
    dead=3,
    workers=(WORKER,),
    unread_workers={},
)


def after(seconds: float, worker: WorkerRecord, **more: float) -> WorkerRecord:
    """What the worker tells later, having done so much more."""
    values = {name: getattr(worker, name) + value for name, value in more.items()}
    return replace(worker, ready_for_s=worker.ready_for_s + seconds, **values)


def rates(*looks: WorkerRecord, every_s: float = 1.0) -> Rates:
    """After one look each at these records."""
    found = Rates()
    for n, record in enumerate(looks):
        found.update(n * every_s, [replace(QUEUE, done=1000 + 5 * n, workers=(record,))])
    return found


def shown(found: Rates, width: int, *queues: QueueStatus, error: str = "") -> str:
    """The screen as text on a terminal so wide."""
    console = Console(width=width, file=StringIO(), force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(screen(queues, found, title="embedmill at redis://host", error=error))
    return capture.get()


def test_rates_are_over_the_worker_s_own_time() -> None:
    """However late or often somebody looks, and whatever the worker did before."""
    later = after(2.0, WORKER, batch_texts=500, batch_tokens=4000, batch_cost_tokens=5000, busy_s=1.0)
    later = replace(later, batch_budget_tokens=WORKER.batch_budget_tokens + 10_000)
    found = rates(WORKER, WORKER, later, later, every_s=30.0)
    rate = found.of_worker(WORKER.name)
    assert rate is not None
    assert (rate.texts_per_s, rate.tokens_per_s, rate.busy) == (250.0, 2000.0, 0.5)
    assert rate.fill == 0.5
    assert rate.padding == pytest.approx(0.2)
    assert found.jobs_per_s(QUEUE.queue) == pytest.approx(5 / 30)


def test_only_the_last_ten_seconds_count() -> None:
    """What was fast long ago is not shown as fast."""
    fast = after(1.0, WORKER, batch_texts=1_000_000)
    slow = [after(float(n), fast, batch_texts=n) for n in range(1, 30)]
    rate = rates(WORKER, fast, *slow).of_worker(WORKER.name)
    assert rate is not None
    assert rate.texts_per_s == pytest.approx(1.0)


def test_one_look_is_no_rate() -> None:
    """Neither for a worker that has told nothing new, nor for one that has gone and come again."""
    assert rates(WORKER).of_worker(WORKER.name) is None
    assert rates(WORKER, WORKER).of_worker(WORKER.name) is None
    found = rates(WORKER, after(1.0, WORKER))
    found.update(3.0, [replace(QUEUE, workers=())])
    found.update(4.0, [replace(QUEUE, workers=(WORKER,))])
    assert found.of_worker(WORKER.name) is None


def test_it_fits_into_eighty_columns() -> None:
    """Long names are cut, numbers never; what needs attention is said."""
    found = rates(WORKER, after(1.0, WORKER, batch_texts=12_345, batch_tokens=2_300_000, busy_s=0.97))
    text = shown(found, 80, QUEUE)
    assert max(len(line) for line in text.splitlines()) <= 80
    for number in ("123k", "1.5 h", "1.23G", "12.3k", "2.30M", "97%", "3"):
        assert re.search(rf" {re.escape(number)}\s", text), number
    assert "nvidia_llama_nemotr" in text
    assert "abcde:4711  H100 80" in text
    assert "…" in text
    assert "abcde:4711 could not use other: its vectors are off" in text
    assert "h100-hbm3-80gb-fp8-tensorrt" in shown(found, 200, QUEUE)


def test_a_worker_that_hangs_is_said_to() -> None:
    """Beside its numbers, which stand still."""
    assert "hangs" not in shown(rates(WORKER), 100, QUEUE)
    hung = replace(WORKER, state="hung")
    assert f"{WORKER.host}:{WORKER.pid} hangs" in shown(rates(hung), 100, replace(QUEUE, workers=(hung,)))


def test_nothing_to_show_and_trouble_are_said() -> None:
    """An empty server, a worker that is idle, and a Redis that has gone."""
    assert "no queues" in shown(Rates(), 80)
    assert "no Redis at" in shown(Rates(), 80, error="no Redis at redis://host: refused")
    idle = rates(WORKER, after(1.0, WORKER))
    assert re.search(r"\s0\s+0\s+0%\s+3\s", shown(idle, 80, QUEUE))
    [told] = queues_json([QUEUE], idle)
    assert told["workers"][0]["rates"]["fill"] is None


def test_a_pause_is_said() -> None:
    """For how long, if that is known."""
    for_ever = replace(QUEUE, paused=True)
    assert "is paused until `producer resume`: no worker claims its jobs" in shown(
        rates(WORKER), 200, for_ever
    )
    assert "is paused for another 1.5 min" in shown(rates(WORKER), 80, replace(for_ever, resumes_in_s=90.0))
    assert "paused" not in shown(rates(WORKER), 200, QUEUE)


def command(*options: str, url: str) -> list[str]:
    """`worker top` on that server."""
    return [sys.executable, "-m", "worker", "top", "--redis-url", url, *options]


async def test_it_is_shown_once_where_there_is_no_terminal(redis: Redis, server: EmbeddedServer) -> None:
    """As a table, or as JSON with every number; nothing but Redis is asked."""
    async with worker(server.url, lease_s=0.6), Client(server.url, model=MODEL) as client:
        await client.embed(["a text", 7])
        await asyncio.sleep(0.4)
        run = [asyncio.to_thread(_output, command(*more, url=server.url)) for more in ((), ("--json",))]
        table, printed = await asyncio.gather(*run)
    assert re.search(r"^fake_echo +0 ", table, re.MULTILINE)
    assert "\x1b" not in table
    [queue] = json.loads(printed)
    [told] = queue["workers"]
    assert (told["batch_texts"], told["failures"], queue["done"]) == (1, {"not_a_string": 1}, 1)
    assert told["rates"]["texts_per_s"] == 0


def _output(arguments: list[str]) -> str:
    return subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=40).stdout


class Terminal:
    """A pseudo terminal with a program in it."""

    def __init__(self, arguments: list[str]) -> None:
        self.ours, self.theirs = pty.openpty()
        self.before = termios.tcgetattr(self.theirs)
        env = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
        self.program = subprocess.Popen(
            arguments,
            stdin=self.theirs,
            stdout=self.theirs,
            stderr=self.theirs,
            env=env,
            start_new_session=True,
        )
        self.text = ""

    def read_until(self, words: str) -> None:
        deadline_s = time.monotonic() + 30
        while words not in self.text:
            assert time.monotonic() < deadline_s, self.text
            if select.select([self.ours], [], [], 0.1)[0]:
                self.text += os.read(self.ours, 65536).decode()


@contextmanager
def terminal(*arguments: str) -> Iterator[Terminal]:
    """Closed at the end, whatever happens."""
    opened = Terminal(list(arguments))
    try:
        yield opened
    finally:
        opened.program.kill()
        opened.program.wait()
        os.close(opened.ours)
        os.close(opened.theirs)


@pytest.mark.parametrize("ending", ["q", signal.SIGINT, signal.SIGTERM])
def test_it_ends_quietly(ending: str | signal.Signals) -> None:
    """By `q`, Ctrl-C or SIGTERM: status 0, no traceback, the terminal as it was before.

    Meanwhile a Redis that is not there is shown, and no reason to end.
    """
    with terminal(*command("--interval", "0.2", url="redis://127.0.0.1:1")) as seen:
        seen.read_until("no Redis at redis://127.0.0.1:1")
        assert seen.program.poll() is None
        if isinstance(ending, str):
            os.write(seen.ours, ending.encode())
        else:
            seen.program.send_signal(ending)
        seen.read_until("\x1b[?1049l")  # the alternate screen is left
        assert seen.program.wait(20) == 0
        assert "Traceback" not in seen.text
        assert termios.tcgetattr(seen.theirs) == seen.before


async def test_it_is_live(redis: Redis, server: EmbeddedServer) -> None:
    """What changes is seen without asking again."""
    with terminal(*command("--interval", "0.2", url=server.url)) as seen:
        await asyncio.to_thread(seen.read_until, "no queues")
        async with Client(server.url, model=MODEL) as client:
            await client.submit(["a text"])
        await asyncio.to_thread(seen.read_until, "fake_echo")
