"""Plots reports of benchmarks/kernels/encoder.py and benchmarks/peers/encoder.py, one panel per shape.

    python -m benchmarks.kernels.encoder_plot encoder.json [more.json ...]
        [--peers encoder_peers.json] -o encoder.png

Bars are M tokens/s by mean length. The rate with torch's varlen attention is estimated: our host-to-host
rate, scaled by the ratio of the device times.
"""

import argparse
import json
from pathlib import Path
from typing import Any

COLOURS = {
    "fp16": "#1f6fb4",
    "bf16": "#5ba3d9",
    "fp8": "#143d66",
    "fp16, built-in varlen attention": "#9aa7b3",
    "transformers + SDPA, padded": "#d08a4e",
    "sentence-transformers": "#e3bd95",
}


def main() -> None:
    """Write the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("reports", type=Path, nargs="+")
    parser.add_argument("--peers", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    reports = [json.loads(path.read_text()) for path in arguments.reports]
    rows = [row for report in reports for row in report["rows"]]
    peers = json.loads(arguments.peers.read_text()) if arguments.peers else []
    draw(bars(rows, peers), title=reports[0]["gpu"], output=arguments.output)


def bars(rows: list[dict[str, Any]], peers: list[dict[str, Any]]) -> dict[str, dict[int, dict[str, float]]]:
    """M tokens/s by shape, mean length and implementation."""
    found: dict[str, dict[int, dict[str, float]]] = {}
    for row in rows:
        rates_here = found.setdefault(row["shape"], {}).setdefault(row["mean_tokens"], {})
        rates_here[row["precision"]] = row["tokens_per_s"] / 1e6
        if "varlen_device_us" in row:
            slower = row["varlen_device_us"] / row["device_us"]
            rates_here["fp16, built-in varlen attention"] = row["tokens_per_s"] / slower / 1e6
    for row in peers:
        rates_here = found.setdefault(row["shape"], {}).setdefault(row["mean_tokens"], {})
        rates_here["transformers + SDPA, padded"] = row["transformers_sdpa"]["tokens_per_s"] / 1e6
        rates_here["sentence-transformers"] = row["sentence_transformers"]["tokens_per_s"] / 1e6
    return found


def draw(found: dict[str, dict[int, dict[str, float]]], *, title: str, output: Path) -> None:
    """Draw grouped bars, with the same colour for an implementation in every panel."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(found), figsize=(4.6 * len(found), 4.2), squeeze=False)
    for axes, (shape, means) in zip(panels[0], found.items(), strict=True):
        position, ticks = 0.0, []
        for mean, rates in sorted(means.items()):
            names = [name for name in COLOURS if name in rates]
            for offset, name in enumerate(names):
                drawn = axes.bar(position + offset, rates[name], color=COLOURS[name], width=0.9, label=name)
                axes.bar_label(drawn, fmt="%.2f", fontsize=7, padding=2, rotation=90)
            ticks.append((position + (len(names) - 1) / 2, f"mean {mean}"))
            position += len(names) + 1
        axes.set(title=shape, xticks=[tick for tick, _ in ticks], ylabel="M tokens/s")
        axes.set_xticklabels([text for _, text in ticks])
        axes.margins(y=0.14)
        axes.spines[["top", "right"]].set_visible(False)
    handles = {
        text: handle
        for axes in panels[0]
        for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    ordered = [name for name in COLOURS if name in handles]
    figure.legend([handles[name] for name in ordered], ordered, loc="lower center", ncols=3, frameon=False)
    figure.suptitle(title)
    figure.tight_layout(rect=(0, 0.11, 1, 1))
    figure.savefig(output, dpi=120)


if __name__ == "__main__":
    main()
