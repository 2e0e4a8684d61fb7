"""End-to-end throughput, from texts in producer processes to vectors received, next to the backend alone.

    python -m benchmarks.end_to_end.gpu --model all-MiniLM-L6-v2 [--mean-tokens 20 177] [--texts 20000]
        [--producers 2] [--batch-texts 512] [--in-flight 16] [--embedding-type float16] [--peer-texts 20000]
        [--peers sentence-transformers infinity vllm] [--peer-python infinity=VENV/bin/python] [--tei URL]
        [--json FILE] [--plot FILE]

`--model` is a served name or a model's directory (benchmarks/support/random_model.py makes one of any
shape); a name with EMBEDMILL_MODEL_DIR runs that model's profiles with other weights. One worker host serves
the profile that it selects; EMBEDMILL_* settings in the environment apply to it. Measurements run one after
the other: the backend alone, end to end, then each peer in a separate process, with its own interpreter if
one is given.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.support.serving import cpu_s, gpu_busy, host, mean_between, server_process
from benchmarks.support.texts import texts, write_texts
from producer.embedded.services import EmbeddedServer

Report = dict[str, Any]


def main() -> None:
    arguments = parse()
    cases = []
    for mean_tokens in arguments.mean_tokens:
        with tempfile.TemporaryDirectory() as folder:
            path, peers_path = Path(folder) / "texts.jsonl", Path(folder) / "peers.jsonl"
            write_texts(path, texts(arguments.texts, mean_tokens=mean_tokens))
            few = arguments.peer_texts or arguments.texts
            write_texts(peers_path, islice(texts(arguments.texts, mean_tokens=mean_tokens), few))
            cases.append(measure(arguments, path, peers_path))
            print(table(cases[-1]), flush=True)
    report = {"machine": machine(), "settings": {key: str(value) for key, value in vars(arguments).items()}}
    if arguments.json:
        arguments.json.write_text(json.dumps(report | {"cases": cases}, indent=2) + "\n")
    if arguments.plot:
        plot(cases, arguments.plot)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--mean-tokens", type=float, nargs="+", default=[20, 177])
    parser.add_argument("--producers", type=int, default=2)
    parser.add_argument("--batch-texts", type=int, default=512)
    parser.add_argument("--in-flight", type=int, default=16)
    parser.add_argument("--embedding-type", default="float16", choices=["float16", "float32"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", nargs="*", default=[])
    parser.add_argument(
        "--peer-texts", type=int, help="number of texts for peers, which are slower; default: all"
    )
    parser.add_argument("--peer-python", nargs="*", default=[], metavar="PEER=PYTHON")
    parser.add_argument("--tei")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    return parser.parse_args()


def measure(arguments: argparse.Namespace, path: Path, peers_path: Path) -> Report:
    """Measure one length distribution: the backend alone, end to end, and each peer."""
    env = {**os.environ, "EMBEDMILL_MODEL": arguments.model}
    if Path(arguments.model).is_dir():
        env |= {"EMBEDMILL_MODEL": "benchmark", "EMBEDMILL_MODEL_DIR": arguments.model}
    alone = child(["benchmarks.end_to_end.backend_alone", str(path)], env)
    print_rate("backend alone", alone)
    served = end_to_end(arguments, path, env)
    print_rate("Embedmill, end to end", served)
    pythons = dict(named.split("=", 1) for named in arguments.peer_python)
    peers = [
        child(
            ["benchmarks.peers.in_process", name, model_dir(env), str(peers_path)], python=pythons.get(name)
        )
        for name in arguments.peers
    ]
    if arguments.tei:
        peers.append(child(["benchmarks.peers.in_process", "tei", arguments.tei, str(peers_path)]))
    for peer in peers:
        print_rate(peer["peer"], peer)
    share = served["texts_per_s"] / alone["texts_per_s"]
    return {
        "model": arguments.model,
        "alone": alone,
        "served": served,
        "share_of_alone": share,
        "peers": peers,
    }


def print_rate(name: str, found: Report) -> None:
    """Print a rate as soon as it is known, so that an aborted run has shown it."""
    print(f"  {name:<24}{found['texts_per_s']:>12,.0f} texts/s", file=sys.stderr, flush=True)


def end_to_end(arguments: argparse.Namespace, path: Path, env: dict[str, str]) -> Report:
    """The median round of embedding all texts, from the producer processes back to them."""
    with EmbeddedServer() as server, host({**env, "EMBEDMILL_REDIS_URL": server.url}) as serving:
        watched = {"server": [server_process(server.url)], "worker": serving.workers}
        rounds = []
        for _ in range(1 + arguments.rounds):
            before = {role: cpu_s(processes) for role, processes in watched.items()}
            with gpu_busy() as busy:
                found = one_round(arguments, path, server.url, env["EMBEDMILL_MODEL"])
            used = {role: cpu_s(processes) - before[role] for role, processes in watched.items()}
            found["cpu_s"] = {"producers": found.pop("producers_cpu_s"), **used}
            seen = mean_between(busy, found.pop("started_s"), found.pop("ended_s"))
            rounds.append(found | {"gpu_busy": seen})
    rounds = sorted(rounds[1:], key=lambda one: one["texts_per_s"])
    return rounds[(len(rounds) - 1) // 2] | {"rounds_texts_per_s": [one["texts_per_s"] for one in rounds]}


def one_round(arguments: argparse.Namespace, path: Path, url: str, model: str) -> Report:
    """Embed all texts once: from the start of the first producer until the last vector is received."""
    common = [
        str(arguments.producers),
        str(arguments.batch_texts),
        str(arguments.in_flight),
        arguments.embedding_type,
    ]
    producers = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "benchmarks.end_to_end.producing",
                url,
                model,
                str(path),
                str(first),
                *common,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for first in range(arguments.producers)
    ]
    for one in producers:
        if one.stdout is None or one.stdout.readline() != "ready\n":
            raise SystemExit("a producer did not start")
    found = [json.loads(one.communicate("go\n")[0]) for one in start_all(producers)]
    ended_s, started_s = max(one["ended_s"] for one in found), min(one["started_s"] for one in found)
    jobs_ms = np.concatenate([one["jobs_s"] for one in found]) * 1000
    num_vectors = sum(one["num_vectors"] for one in found)
    if num_vectors != arguments.texts:
        raise SystemExit(f"{num_vectors} vectors were received for {arguments.texts} texts")
    return {
        "texts_per_s": num_vectors / (ended_s - started_s),
        "job_p50_ms": float(np.percentile(jobs_ms, 50)),
        "job_p99_ms": float(np.percentile(jobs_ms, 99)),
        "producers_cpu_s": sum(one["cpu_s"] for one in found),
        "seconds": ended_s - started_s,
        "started_s": started_s,
        "ended_s": ended_s,
    }


def start_all(producers: list[subprocess.Popen[str]]) -> list[subprocess.Popen[str]]:
    """Signal all producers to start before waiting for any of them."""
    for one in producers:
        if one.stdin is not None:
            one.stdin.write("go\n")
            one.stdin.flush()
    return producers


def child(arguments: list[str], env: dict[str, str] | None = None, *, python: str | None = None) -> Report:
    """The JSON in the last line that a module prints; SystemExit with its stderr if it fails."""
    ended = subprocess.run(
        [python or sys.executable, "-m", *arguments], env=env, capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise SystemExit(f"{' '.join(arguments)} exited with {ended.returncode}:\n{ended.stderr[-2000:]}")
    report: Report = json.loads(ended.stdout.splitlines()[-1])
    return report


def model_dir(env: dict[str, str]) -> str:
    """The directory of the same weights, for the peers."""
    from selection import manifest_for
    from worker.models.source import locate

    if named := env.get("EMBEDMILL_MODEL_DIR"):
        return named
    return str(locate(manifest_for(env["EMBEDMILL_MODEL"]).model.sources, cache=None, offline=False))


def table(case: Report) -> str:
    """The results for one length distribution as text."""
    alone, served = case["alone"], case["served"]
    rows = [
        ("backend alone", alone["texts_per_s"], f"{alone['profile']}, {alone['tokens_per_s']:,.0f} tokens/s"),
        (
            "Embedmill, end to end",
            served["texts_per_s"],
            f"{case['share_of_alone']:.1%} of the backend alone; job p50 {served['job_p50_ms']:,.0f} ms, "
            f"p99 {served['job_p99_ms']:,.0f} ms; CPU s: "
            + ", ".join(f"{role} {used:.1f}" for role, used in served["cpu_s"].items())
            + (f"; GPU busy {served['gpu_busy']:.0%}" if served["gpu_busy"] is not None else ""),
        ),
        *(
            (
                peer["peer"],
                peer["texts_per_s"],
                f"{peer['best']}; Embedmill: {served['texts_per_s'] / peer['texts_per_s']:.2f} times as fast",
            )
            for peer in case["peers"]
        ),
    ]
    head = f"mean {alone['mean_tokens']:.0f} tokens per text{', ' + alone['gpu'] if alone['gpu'] else ''}"
    return "\n".join([head, *(f"  {name:<24}{rate:>12,.0f} texts/s  {note}" for name, rate, note in rows)])


def machine() -> Report:
    """The date, machine and versions behind the numbers."""
    names = ("redis", "arq", "msgpack", "numpy", "tokenizers")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }


def plot(cases: list[Report], path: Path) -> None:
    """Plot texts/s of backend alone, Embedmill and peers as bars, one panel per length distribution."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot, ticker

    def num_bars(case: Report) -> int:
        return 2 + len(case["peers"])

    figure, panels = pyplot.subplots(1, len(cases), figsize=(4.5 * len(cases), 3.2), squeeze=False)
    for axes, case in zip(panels[0], cases, strict=True):
        bars = {"backend alone": case["alone"]["texts_per_s"], "Embedmill": case["served"]["texts_per_s"]}
        bars |= {peer["peer"]: peer["texts_per_s"] for peer in case["peers"]}
        colours = ["#b8b8b8", "#1f6fb4", *["#d08a4e"] * len(case["peers"])]
        drawn = axes.barh(list(bars)[::-1], list(bars.values())[::-1], color=colours[: len(bars)][::-1])
        axes.bar_label(drawn, labels=[f"{value:,.0f}" for value in list(bars.values())[::-1]], padding=3)
        title = f"{case['model']}, {case['alone']['profile']}\nmean {case['alone']['mean_tokens']:.0f} tokens"
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("texts/s")
        axes.set_xlim(0, max(bars.values()) * 1.25)
        top = num_bars(case) - 0.4
        axes.set_ylim(top - max(map(num_bars, cases)) - 0.2, top)  # the same bar height in every panel
        axes.xaxis.set_major_locator(ticker.MaxNLocator(4))
        axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
