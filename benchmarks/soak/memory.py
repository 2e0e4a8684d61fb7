"""Memory use over a long run: `producer embed` with many generated texts, a worker and a server.

    python -m benchmarks.soak.memory [--texts 1000000] [--model fake/echo] [--mean-tokens 20] [--plot FILE]

Samples the resident memory of the three processes and prints, for each, the median over each tenth of the run
and the CPU time per text, which other load on the machine affects less than texts/s. The slope excludes the
first tenth, in which pools and caches fill up.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from benchmarks.support.serving import server_process
from benchmarks.support.texts import texts
from producer.embedded.services import EmbeddedServer

SAMPLE_S = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--texts", type=int, default=1_000_000)
    parser.add_argument("--model", default="fake/echo")
    parser.add_argument("--mean-tokens", type=float, default=20)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder) / "in.jsonl", Path(folder) / "out.parquet"
        with source.open("w", encoding="utf-8") as lines:
            for text in texts(arguments.texts, mean_tokens=arguments.mean_tokens):
                lines.write(json.dumps({"text": text}) + "\n")
        samples, used_s, seconds = run(arguments.model, source, output)
        size = output.stat().st_size
    report = {
        "texts": arguments.texts,
        "model": arguments.model,
        "seconds": round(seconds, 1),
        "texts_per_s": round(arguments.texts / seconds),
        "cpu_us_per_text": {name: round(used / arguments.texts * 1e6, 1) for name, used in used_s.items()},
        "output_bytes": size,
        "resident_mb_by_tenth": {name: tenths(rows) for name, rows in samples.items()},
        "slope_mb_per_million_texts": {
            name: slope(rows, seconds, arguments.texts) for name, rows in samples.items()
        },
    }
    print(json.dumps(report, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    if arguments.plot:
        plot(samples, arguments.plot, f"{arguments.texts:,} texts, {arguments.model}")


def run(model: str, source: Path, output: Path) -> tuple[dict[str, np.ndarray], dict[str, float], float]:
    """Samples (seconds, MB) and CPU seconds of each process, and how long the command took."""
    with EmbeddedServer() as server, tempfile.TemporaryFile() as log:
        env = {**os.environ, "EMBEDMILL_REDIS_URL": server.url, "EMBEDMILL_MODEL": model}
        worker = subprocess.Popen([sys.executable, "-m", "worker", "run"], env=env, stderr=log)
        try:
            command = [
                "embed",
                str(source),
                "-o",
                str(output),
                "--model",
                model,
                "--truncate",
                "END",
                "--quiet",
            ]
            started_s = time.perf_counter()
            producer = subprocess.Popen([sys.executable, "-m", "producer", *command], env=env)
            watched = {
                "producer": producer.pid,
                "worker": child_pid(worker.pid),
                "server": server_process(server.url).pid,
            }
            rows: dict[str, list[tuple[float, float]]] = {name: [] for name in watched}
            before_s = {name: cpu_s(pid) for name, pid in watched.items()}
            used_s = dict.fromkeys(watched, 0.0)
            while producer.poll() is None:
                for name, pid in watched.items():
                    resident = psutil.Process(pid).memory_info().rss / 1e6
                    if resident:  # 0 for a process that has just exited
                        rows[name].append((time.perf_counter() - started_s, resident))
                        used_s[name] = cpu_s(pid) - before_s[name]
                time.sleep(SAMPLE_S)
            if producer.returncode != 0:
                raise SystemExit(f"producer embed exited with {producer.returncode}")
            seconds = time.perf_counter() - started_s
        finally:
            worker.terminate()
            worker.wait()
    return {name: np.array(found) for name, found in rows.items()}, used_s, seconds


def cpu_s(pid: int) -> float:
    """The CPU seconds of a process so far."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def child_pid(parent: int) -> int:
    """The worker process under `worker run`, once it has started."""
    while not (children := psutil.Process(parent).children()):
        time.sleep(SAMPLE_S)
    return int(children[0].pid)


def tenths(rows: np.ndarray) -> list[float]:
    """Median resident MB in each tenth of the run."""
    return [round(float(np.median(part[:, 1])), 1) for part in np.array_split(rows, 10) if len(part)]


def slope(rows: np.ndarray, seconds: float, num_texts: int) -> float:
    """Growth by a linear fit to all but the first tenth, in MB per million texts."""
    later = rows[len(rows) // 10 :]
    per_second = np.polyfit(later[:, 0], later[:, 1], 1)[0]
    return round(float(per_second * seconds / num_texts * 1e6), 2)


def plot(samples: dict[str, np.ndarray], path: Path, title: str) -> None:
    """Plot the memory of the three processes over time."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4))
    for name, rows in samples.items():
        axes.plot(rows[:, 0], rows[:, 1], label=name)
    axes.set(xlabel="seconds", ylabel="resident memory, MB", title=title, ylim=(0, None))
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
