"""Texts for benchmarks: prose with a given length distribution, reproducible by seed."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

CORPUS = Path(__file__).parents[2] / "examples" / "definitions.jsonl"
TOKENS_PER_WORD = 1.3  # approximate, for the WordPiece vocabulary on these definitions


def words() -> list[str]:
    """All words of the shipped corpus, in order."""
    with CORPUS.open(encoding="utf-8") as lines:
        return [word for line in lines for word in json.loads(line)["text"].split()]


def write_texts(path: Path, texts: Iterable[str]) -> None:
    """Write JSON lines, which other processes of a benchmark read."""
    with path.open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps({"text": text}) + "\n" for text in texts)


def read_texts(path: Path) -> list[str]:
    """Read the texts that `write_texts` wrote."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def texts(count: int, *, mean_tokens: float, seed: int = 0) -> Iterator[str]:
    """`count` texts of at least one word, with log-normal lengths of about that mean."""
    pool, random = words(), np.random.default_rng(seed)
    sigma = 0.6
    mean_words = mean_tokens / TOKENS_PER_WORD
    for _ in range(count):
        length = max(1, round(float(random.lognormal(np.log(mean_words) - sigma**2 / 2, sigma))))
        start = int(random.integers(len(pool) - length)) if length < len(pool) else 0
        yield " ".join(pool[start : start + length])
