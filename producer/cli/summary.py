"""What a run of `producer embed` prints at its end."""

from pathlib import Path

from producer.bulk import Summary
from producer.cli.progress import TOO_LONG
from producer.datasets import Dataset, RunResult
from producer.datasets.target import ERRORS
from producer.terminal import escaped, format_bytes


def summary_lines(summary: Summary, *, output: Path, errors: Path) -> list[str]:
    """The human-readable summary; if texts failed, also their number by code and the file that lists them."""
    lines = [*_counts(summary), f"output     {output} ({format_bytes(output.stat().st_size)})"]
    return [*lines, f"errors     {errors}"] if summary.num_failed else lines


def dataset_lines(dataset: Dataset, result: RunResult) -> list[str]:
    """The same for a run that wrote a directory of parts."""
    summary, location = result.summary, dataset.target.location
    parts = dataset.manifest.parts.values()
    size = format_bytes(sum(part.num_bytes for part in parts))
    lines = _counts(summary)
    if result.num_reused:
        lines.append(f"unchanged  {result.num_reused:,} rows, whose vectors were kept")
    if result.num_duplicates:
        lines.append(f"duplicates {result.num_duplicates:,} rows left out")
    lines.append(f"output     {location} ({len(parts):,} parts, {size})")
    return [*lines, f"errors     {location}/{ERRORS}"] if summary.num_failed else lines


def up_to_date_line(dataset: Dataset) -> str:
    """For a run that had nothing to do."""
    parts = dataset.finished
    rows, failed = sum(part.num_rows for part in parts), sum(sum(part.failed.values()) for part in parts)
    told = f"up to date: {dataset.target.location} has all {len(parts):,} parts with {rows:,} rows"
    return f"{told}, {failed:,} of them failed (--retry-failed)" if failed else told


def _counts(summary: Summary) -> list[str]:
    earlier = summary.earlier.num_texts
    num_now, per_s = summary.num_texts - earlier, f"{summary.texts_per_s:,.0f} texts/s"
    lines = [
        f"texts      {num_now:,} in {summary.seconds:.1f} s, {per_s}",
        *([f"earlier    {earlier:,}, {summary.num_texts:,} in all"] if earlier else []),
        f"tokens     {summary.num_tokens:,}, {summary.tokens_per_s:,.0f} tokens/s",
        f"truncated  {summary.num_truncated:,}",
        f"failed     {summary.num_failed:,}",
    ]
    lines += [f"  {escaped(code)}  {count:,}" for code, count in sorted(summary.failed.items())]
    if TOO_LONG in summary.failed:
        lines.append("  texts longer than the model takes are cut with --truncate END (or START)")
    for source in summary.sources:
        lines.append(escaped(f"model      {source.model} ({source.revision})"))
        lines.append(escaped(f"profile    {source.profile_name} ({source.profile_id}), {source.precision}"))
    if summary.prompt_name is not None:
        lines.append(escaped(f"prompt     {summary.prompt_name}"))
    return lines
