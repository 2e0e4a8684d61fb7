"""A reverse dictionary: embeds 4,000 definitions with Embedmill, then finds words by their meaning.

python examples/dictionary.py                             sample questions
python examples/dictionary.py "a machine that flies"      your question, with the vectors of the last run
"""

import json
import os
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from producer.cli.exit_status import exit_status
from producer.contract import EmbedOptions, Truncate
from producer.embedded.services import EmbeddedServer, EmbeddedWorker
from producer.sync import SyncClient

MODEL = "all-MiniLM-L6-v2"
CORPUS = Path(__file__).with_name("definitions.jsonl")
VECTORS = Path("demo/vectors.parquet")
QUESTIONS = (
    "it tells you the time",
    "a drink made from grapes",
    "something to sleep on",
    "what a doctor listens to your heart with",
)
NUM_NEAREST = 5
LINE_WIDTH = 100

Vectors = npt.NDArray[np.float32]


def embed_corpus(redis_url: str) -> None:
    """Run `producer embed` as a user would; exit with its status if it fails."""
    VECTORS.parent.mkdir(exist_ok=True)
    VECTORS.unlink(missing_ok=True)
    paths = [os.path.relpath(CORPUS), "-o", str(VECTORS)]
    command = ["producer", "embed", *paths, "--model", MODEL, "--redis-url", redis_url]
    click.echo(f"$ {shlex.join(command)}")
    finished = subprocess.run([Path(sys.executable).parent / command[0], *command[1:]], check=False)
    if finished.returncode:
        sys.exit(finished.returncode)


def read_vectors() -> tuple[list[str], Vectors]:
    """The ids in `VECTORS`, and their vectors of unit length, float32 (n, dim)."""
    table = pq.read_table(VECTORS, columns=["id", "vector"])
    vectors = table["vector"].combine_chunks().flatten().to_numpy()
    return table["id"].to_pylist(), vectors.reshape(len(table), -1)


def show_answers(questions: Sequence[str], asked: Vectors) -> None:
    """Print the nearest definitions to each question, with their cosine similarities."""
    with CORPUS.open(encoding="utf-8") as lines:
        texts = {entry["id"]: entry["text"] for entry in map(json.loads, lines)}
    ids, vectors = read_vectors()
    for question, vector in zip(questions, asked, strict=True):
        cosines = vectors @ vector
        click.secho(f"\n{question}", bold=True)
        for index in np.argsort(-cosines)[:NUM_NEAREST]:
            definition = textwrap.shorten(texts[ids[index]], LINE_WIDTH, placeholder=" ...")
            click.echo(f"  {cosines[index]:.3f}  {definition}")


def main() -> None:
    """Embed the corpus and the questions with an embedded Valkey server and one worker."""
    questions = sys.argv[1:] or QUESTIONS
    has_vectors = VECTORS.exists() and VECTORS.stat().st_mtime > CORPUS.stat().st_mtime
    with exit_status(), EmbeddedServer() as server, EmbeddedWorker(redis_url=server.url, model=MODEL):
        if questions is QUESTIONS or not has_vectors:
            embed_corpus(server.url)
        with SyncClient(server.url, model=MODEL) as client:
            reply = client.embed(questions, EmbedOptions(truncate=Truncate.END))
    show_answers(questions, reply.vectors.astype(np.float32, copy=False))
    click.echo(
        f'\nThe vectors are in {VECTORS}. Ask your own question: make demo QUERY="a machine that flies"'
    )


if __name__ == "__main__":
    main()
