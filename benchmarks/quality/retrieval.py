"""Retrieval quality through the queue: nDCG@10 and recall@10 on a corpus in the BEIR layout.

    python -m benchmarks.quality.retrieval DIR [--model all-MiniLM-L6-v2] [--embedding-type float32]

DIR contains corpus.jsonl[.gz], queries.jsonl and qrels.tsv. The run starts its own server and worker, with
the profile that is selected automatically or the one in EMBEDMILL_MODEL_PROFILE.
"""

import argparse
import csv
import gzip
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from producer import EmbedOptions, SyncClient
from producer.contract import InputType
from producer.embedded.services import EmbeddedServer, EmbeddedWorker

BATCH_TEXTS = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--embedding-type", default="float32")
    parser.add_argument("--dimensions", type=int)
    arguments = parser.parse_args()
    documents = {
        row["_id"]: f"{row['title']} {row['text']}".strip() for row in rows(arguments.directory, "corpus")
    }
    queries = {row["_id"]: row["text"] for row in rows(arguments.directory, "queries")}
    judgements = qrels(arguments.directory / "qrels.tsv")
    shape = {"dimensions": arguments.dimensions, "embedding_type": arguments.embedding_type}
    with (
        EmbeddedServer() as server,
        EmbeddedWorker(redis_url=server.url, model=arguments.model),
        SyncClient(server.url, model=arguments.model) as client,
    ):
        started_s = time.perf_counter()
        passages = EmbedOptions(truncate="END", input_type="passage", **shape)
        corpus = embed(client, list(documents.values()), passages)
        seconds = time.perf_counter() - started_s
        asked = embed(client, list(queries.values()), replace(passages, input_type=InputType.QUERY))
    ranked = np.argsort(-(asked @ corpus.T), axis=1, kind="stable")[:, :10]
    ids = np.array(list(documents))
    found = {query: ids[row].tolist() for query, row in zip(queries, ranked, strict=True)}
    scores = [score(found[query], judgements[query]) for query in queries if query in judgements]
    ndcg, recall = np.mean(scores, axis=0)
    print(
        json.dumps(
            {
                "model": arguments.model,
                **shape,
                "documents": len(documents),
                "queries": len(scores),
                "ndcg_at_10": round(float(ndcg), 5),
                "recall_at_10": round(float(recall), 5),
                "documents_per_s": round(len(documents) / seconds, 1),
            }
        )
    )


def rows(directory: Path, name: str) -> Iterator[dict[str, str]]:
    """The rows of NAME.jsonl or NAME.jsonl.gz."""
    packed = directory / f"{name}.jsonl.gz"
    plain = directory / f"{name}.jsonl"
    with gzip.open(packed, "rt") if packed.exists() else plain.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def qrels(path: Path) -> dict[str, dict[str, int]]:
    """The relevant documents of each query, with their grades."""
    judgements: dict[str, dict[str, int]] = defaultdict(dict)
    with path.open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            judgements[row["query-id"]][row["corpus-id"]] = int(row["score"])
    return judgements


def embed(client: SyncClient, texts: list[str], options: EmbedOptions) -> np.ndarray:
    """All vectors, in order, as float32 with unit length."""
    batches = [texts[at : at + BATCH_TEXTS] for at in range(0, len(texts), BATCH_TEXTS)]
    parts = []
    for reply in client.embed_many(batches, options):
        if reply.failures:
            raise SystemExit(f"a text failed: {reply.failures[0]}")
        parts.append(decoded(reply.vectors, options))
    vectors = np.concatenate(parts)
    unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def decoded(vectors: np.ndarray, options: EmbedOptions) -> np.ndarray:
    """Dequantised vectors, up to a constant factor."""
    kind = str(options.embedding_type)
    if kind in ("binary", "ubinary"):
        bits = vectors.astype(np.int16) + (128 if kind == "binary" else 0)
        return np.unpackbits(bits.astype(np.uint8), axis=1).astype(np.float32) * 2 - 1
    return vectors.astype(np.float32) - (128 if kind == "uint8" else 0)


def score(found: list[str], relevant: dict[str, int]) -> tuple[float, float]:
    """nDCG@10 and recall@10, as computed by pytrec_eval."""
    gains = [relevant.get(document, 0) / np.log2(rank + 2) for rank, document in enumerate(found)]
    ideal = [
        grade / np.log2(rank + 2) for rank, grade in enumerate(sorted(relevant.values(), reverse=True)[:10])
    ]
    hits = sum(document in relevant and relevant[document] > 0 for document in found)
    return sum(gains) / sum(ideal), hits / sum(grade > 0 for grade in relevant.values())


if __name__ == "__main__":
    main()
