"""The supervisor: one worker process a device, dead ones restarted and their jobs handed back."""

import asyncio
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from redis.asyncio import Redis
from support.paths import MACHINES
from support.programs import READY, Programs, wait_for
from support.redis_hashes import hget, hgetall
from support.serving import MODEL
from support.text_bytes import text_bytes
from support.worker_process import process

from producer import Client
from producer.contract import EmbedOptions, Keys, build_request, queue_name
from producer.embedded.services import EmbeddedServer
from producer.queue.enqueue import QueueLimits, prepare_job, submit
from worker.consumer.bisection import NOTHING, Bisection
from worker.consumer.handback import HandedBack, hand_back, new_owner
from worker.consumer.leases import Claim, Leases
from worker.settings import Settings
from worker.startup.survey import survey
from worker.supervisor.placement import worker_environments
from worker.supervisor.supervisor import run_all

pytestmark = pytest.mark.every_server

KEYS = Keys(queue_name(MODEL))


@pytest.mark.parametrize(
    ("programs", "status"),
    [
        (["raise SystemExit(1)"], 1),
        (["raise SystemExit(3)"], 3),
        ([READY + "raise SystemExit(1)", READY + "os.kill(os.getpid(), 9)", "raise SystemExit(4)"], 4),
        ([READY + "raise SystemExit(0)", "raise SystemExit(1)", "raise SystemExit(2)"], 2),
        (["import os; os.kill(os.getpid(), 11)", "raise SystemExit(5)"], 5),
    ],
)
def test_what_is_restarted_and_what_is_final(programs: list[str], status: int) -> None:
    """Signals, and errors once a worker has served, are survived; 2 to 5 and a failed first start are not."""
    worker = Programs(*programs)
    assert worker.process().run() == status
    assert len(worker.owners) == len(set(worker.owners)) == len(programs)
    assert worker.handed_back == worker.owners


DIE = "os.kill(os.getpid(), 9)"


@pytest.mark.parametrize(
    ("programs", "bisecting", "pauses"),
    [
        ([READY + DIE] * 2, False, ["0.5", "1.0"]),
        ([READY + DIE] * 2, True, ["0.0", "0.0"]),
        (["import os;" + DIE] * 2, False, ["0.5", "1.0"]),
        ([READY + DIE, READY + "time.sleep(2);" + DIE], False, ["0.5", "0.0"]),
    ],
)
def test_who_dies_too_soon_is_restarted_after_a_pause(
    programs: list[str], bisecting: bool, pauses: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Before it is ready, or sooner after that than it took to boot; but not while bisecting a job."""
    worker = Programs(*programs, "raise SystemExit(3)")
    worker.bisecting = bisecting
    assert worker.process().run() == 3
    told = [one.getMessage() for one in caplog.records if "worker_died" in one.getMessage()]
    assert [line.rpartition("=")[2] for line in told] == pauses


def test_a_stopped_worker_is_not_started_again() -> None:
    """Neither while it pauses after failures, nor at its first start."""
    worker = Programs("import os; os.kill(os.getpid(), 9)")
    supervised = worker.process()
    thread = threading.Thread(target=supervised.run)
    thread.start()
    wait_for(lambda: len(worker.handed_back) >= 2)
    supervised.stop()
    thread.join(timeout=10)
    assert not thread.is_alive()
    num_started = len(worker.owners)
    assert supervised.run() == 0
    assert len(worker.owners) == num_started


def test_the_first_failure_is_the_supervisor_s_status() -> None:
    """One device that cannot serve does not end the others; when all have ended it is what is told."""
    good, bad = Programs("raise SystemExit(3)"), Programs(READY, "raise SystemExit(4)")
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        assert run_all([good.process(), bad.process()]) in (3, 4)
    finally:
        signal.signal(signal.SIGTERM, handlers[0])
        signal.signal(signal.SIGINT, handlers[1])
    assert len(bad.owners) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_every_signal_reaches_the_worker(number: signal.Signals) -> None:
    """As SIGTERM, the second one too, and the worker's status is the parent's."""
    child = (
        READY + "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}); os.write(1, b'up\\n')\n"
        "for _ in range(2): signal.sigwait({signal.SIGTERM}); os.write(1, b'seen\\n')\n"
    )
    parent = (
        "import os, sys; from worker.supervisor.supervisor import run_all; "
        "from worker.supervisor.process import WorkerProcess\n"
        "one = WorkerProcess(os.environ, command=lambda _: [sys.executable, '-c', sys.argv[1]],"
        " hand_back=lambda _: False)\n"
        "sys.exit(run_all([one]))\n"
    )
    running = subprocess.Popen([sys.executable, "-c", parent, child], stdout=subprocess.PIPE, text=True)
    with running, ExitStack() as on_exit:
        on_exit.callback(running.kill)
        assert running.stdout is not None
        assert running.stdout.readline() == "up\n"
        for _ in range(2):
            running.send_signal(number)
            assert running.stdout.readline() == "seen\n"
        assert running.wait(20) == 0


async def test_a_killed_worker_s_jobs_do_not_wait_for_their_lease(
    redis: Redis, server: EmbeddedServer, tmp_path: Path
) -> None:
    """With leases of 100 s everything is answered within seconds, by a new process of the same supervisor."""
    async with Client(server.url, model=MODEL) as client:
        with process(tmp_path / "log", server.url, lease_s=100) as supervisor:
            await client.pause()
            sent = [await client.submit([f"text {n} " * 80] * 64) for n in range(200)]
            await client.resume()
            await client.result(sent[0].job, timeout_s=20)
            [worker] = psutil.Process(supervisor.pid).children()
            worker.suspend()
            assert await redis.zcard(KEYS.leases) > 0
            worker.kill()
            replies = [await client.result(one.job, timeout_s=30) for one in sent]
            assert all(reply.ok for reply in replies)
            assert worker.pid not in [one.pid for one in psutil.Process(supervisor.pid).children()]
            supervisor.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(supervisor.wait, 20) == 0
    totals = await hgetall(redis, KEYS.totals)
    assert (totals[b"done"], await text_bytes(redis, KEYS)) == (b"200", 0)


def test_a_worker_does_not_outlive_its_parent(server: EmbeddedServer, tmp_path: Path) -> None:
    """Even if that one was killed."""
    with process(tmp_path / "log", server.url) as supervisor:
        [worker] = psutil.Process(supervisor.pid).children()
        supervisor.kill()
        worker.wait(20)
    assert "parent_gone" in (tmp_path / "log").read_text()
    assert "worker_stopped" in (tmp_path / "log").read_text()


async def test_only_the_dead_one_s_jobs_are_handed_back(redis: Redis, keys: Keys) -> None:
    """As suspects, to their old place; another's lease and a pausing job stay as they are."""
    name = new_owner()
    dead, alive = (Leases(redis, keys, worker=one, lease_s=30) for one in (name, new_owner()))
    claims: list[Claim] = []
    for owner in (dead, alive, alive):
        prepared = prepare_job(build_request("m", [f"text {len(claims)}"], EmbedOptions()))
        await submit(redis, keys, prepared, limits=QueueLimits(), keep_result_s=60)
        [(claim, _)] = await owner.claim(1, 1)
        claims.append(claim)
    lost, held, paused = claims
    await alive.release(paused, pause_s=30, burn_try=True)
    score = await hget(redis, keys.job(lost.job), "score")
    assert score is not None
    assert [await hand_back(redis, keys, name) for _ in range(2)] == [
        HandedBack(num_jobs=1, num_under_test=0),
        HandedBack(num_jobs=0, num_under_test=0),
    ]
    assert await redis.zrange(keys.pending, 0, -1, withscores=True) == [(lost.job.encode(), float(score))]
    assert set(await redis.zrange(keys.leases, 0, -1)) == {held.job.encode(), paused.job.encode()}
    [(again, _)] = await dead.claim(1, 1)
    assert (again.tries, again.bisection) == (1, Bisection())
    assert await dead.mark(again, Bisection(), NOTHING)
    assert await hand_back(redis, keys, name) == HandedBack(num_jobs=1, num_under_test=1)
    [(again, _)] = await alive.claim(1, 1)
    assert (again.tries, again.bisection) == (1, Bisection().died(NOTHING))


@pytest.mark.parametrize(
    ("machine", "names"),
    [
        ("cpu-x86", []),
        ("h100-sxm", ["0"]),
        ("h100-sxm-two", ["0", "1"]),
        ("h100-sxm-two-first-full", ["1"]),
        ("a100-and-l4", ["0", "1"]),
        ("h100-sxm-mig-3g", ["0:0", "0:1"]),
        ("h100-sxm-cpu-builds", []),
    ],
)
def test_one_worker_for_each_gpu_that_can_serve(machine: str, names: list[str]) -> None:
    """Each sees its GPU alone and is named after it; without one that a profile can use it is one worker."""
    settings = Settings(workers_per_gpu=1)
    seen = survey(settings, facts_file=MACHINES / f"{machine}.json")
    found = worker_environments(seen, settings, {"A": "b"})
    assert list(found) == (names or ["cpu"])
    uuids = [one["CUDA_VISIBLE_DEVICES"] for one in found.values() if "CUDA_VISIBLE_DEVICES" in one]
    assert len(set(uuids)) == len(uuids) == len(names)
    assert all(one["A"] == "b" for one in found.values())


def test_several_workers_share_each_gpu_if_asked() -> None:
    """Two a GPU have names of their own and see the same device; a CPU has one whatever is asked."""
    settings = Settings(workers_per_gpu=2)
    found = worker_environments(survey(settings, facts_file=MACHINES / "h100-sxm-two.json"), settings, {})
    assert list(found) == ["0/1", "0/2", "1/1", "1/2"]
    uuids = [one["CUDA_VISIBLE_DEVICES"] for one in found.values()]
    assert uuids[0] == uuids[1] != uuids[2] == uuids[3]
    assert list(
        worker_environments(survey(settings, facts_file=MACHINES / "cpu-x86.json"), settings, {})
    ) == ["cpu"]


@pytest.mark.parametrize(
    ("machine", "model", "names"),
    [
        ("h100-sxm", "all-MiniLM-L6-v2", ["0/1", "0/2"]),
        ("h200", "bge-small-en-v1.5", ["0/1", "0/2"]),
        ("h100-sxm-two", "all-MiniLM-L6-v2", ["0/1", "0/2", "1/1", "1/2"]),
        ("h100-sxm", "bge-base-en-v1.5", ["0"]),  # one process feeds what is slower
        ("h100-sxm", "org/unknown", ["0"]),
        ("h100-sxm-mig-3g", "all-MiniLM-L6-v2", ["0:0", "0:1"]),
        ("a100-sxm4-80gb", "all-MiniLM-L6-v2", ["0"]),
        ("l4", "all-MiniLM-L6-v2", ["0"]),
    ],
)
def test_two_workers_share_a_gpu_that_one_could_not_feed(
    machine: str, model: str, names: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Without being asked, and with a reason in the log: small networks on the largest GPUs."""
    caplog.set_level("INFO")
    settings = Settings(model=model)
    seen = survey(settings, facts_file=MACHINES / f"{machine}.json")
    assert list(worker_environments(seen, settings, {})) == names
    num_shared = sum(name.endswith("/1") for name in names)
    assert caplog.text.count('reason="one worker process cannot feed it') == num_shared


def test_few_cores_feed_no_second_worker() -> None:
    """Two processes on two cores would take the time from each other."""
    settings = Settings()
    seen = survey(settings, facts_file=MACHINES / "h100-sxm.json")
    cpu = replace(seen.facts.cpu, num_cores=3)
    assert list(worker_environments(replace(seen, facts=replace(seen.facts, cpu=cpu)), settings, {})) == ["0"]


def test_the_supervisor_loads_no_inference_library() -> None:
    """It must stay small and must not break with what it watches."""
    program = (
        "import sys; import worker.cli.main, worker.supervisor.supervisor\n"
        "print(*{'torch', 'onnxruntime', 'onnx', 'tensorrt', 'transformers'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
