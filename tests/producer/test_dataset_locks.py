"""One run at a time writes an output, and a killed one is succeeded at once."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from producer.datasets import RunLock, Shard, Target
from producer.errors import FileError


def lock_of(out: Path, shard: Shard | None = None) -> RunLock:
    return RunLock(Target(str(out)), shard, lost_after_s=0.6)


def leave(out: Path, **changes: object) -> Path:
    """The lock of a run that was killed, as another host would have written it."""
    lock = lock_of(out)
    lock.take()
    path = out / "_locks" / "all"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return path


def test_a_second_run_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    """With its process, host and time; after it has ended, the next begins."""
    first = lock_of(tmp_path)
    first.take()
    with pytest.raises(FileError, match=r"another run is writing it \(process \d+ on .*since 20"):
        lock_of(tmp_path).take()
    first.beat()
    first.release()
    lock_of(tmp_path).take()


def test_the_lock_of_a_killed_process_is_taken_over_at_once(tmp_path: Path) -> None:
    """On the same host nobody waits for a heartbeat to run out."""
    script = (
        "import os, signal, sys; from producer.datasets import RunLock, Target\n"
        "RunLock(Target(sys.argv[1]), None).take(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert (tmp_path / "_locks" / "all").exists()
    RunLock(Target(str(tmp_path)), None, lost_after_s=1e6).take()


def test_a_lock_of_another_host_is_judged_by_its_heartbeat(tmp_path: Path) -> None:
    """One that stands still is taken over; its owner, if it wakes up, must not write any more."""
    sleeper = lock_of(tmp_path)
    sleeper.take()
    path = tmp_path / "_locks" / "all"
    path.write_text(json.dumps({**json.loads(path.read_text()), "boot": "another"}))
    successor = lock_of(tmp_path)
    successor.take()
    with pytest.raises(FileError, match="another run"):
        sleeper.beat()
    sleeper.release()
    successor.check()


def test_a_living_run_of_another_host_is_not_disturbed(tmp_path: Path) -> None:
    """Its heartbeat changes while we look."""
    path = leave(tmp_path, boot="another")
    beat = (
        "import json, sys, time\n"
        "for n in range(30):\n"
        "    lock = json.load(open(sys.argv[1])); lock['beats'] += 1\n"
        "    open(sys.argv[1] + '.new', 'w').write(json.dumps(lock))\n"
        "    import os; os.replace(sys.argv[1] + '.new', sys.argv[1]); time.sleep(0.1)"
    )
    with subprocess.Popen([sys.executable, "-c", beat, str(path)]) as other:
        with pytest.raises(FileError, match="another run"):
            lock_of(tmp_path).take()
        other.kill()


def test_shards_of_one_split_run_side_by_side(tmp_path: Path) -> None:
    """But not the same share twice, nor shares of another split, nor a run of everything."""
    lock_of(tmp_path, Shard(1, 3)).take()
    lock_of(tmp_path, Shard(2, 3)).take()
    for other in (Shard(1, 3), Shard(1, 2), None):
        with pytest.raises(FileError, match="another run"):
            lock_of(tmp_path, other).take()


def test_every_part_is_in_one_share() -> None:
    """And the shares are about alike."""
    names = [f"part-{number:05}.parquet" for number in range(3000)]
    sizes = [sum(Shard(number, 3).has(name) for name in names) for number in (1, 2, 3)]
    assert sum(sizes) == 3000
    assert min(sizes) > 900
