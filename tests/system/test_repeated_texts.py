"""Repeated texts, within a job or across jobs, are embedded once and answered everywhere."""

import asyncio
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from redis.asyncio import Redis
from support.serving import MODEL, booted, worker

from producer import Client
from producer.contract import EmbedOptions, Reply
from producer.embedded.services import EmbeddedServer
from producer.errors import SettingsError
from worker.serving.app import serve
from worker.settings import Settings

pytestmark = pytest.mark.every_server

LONG = "word " * 400


def job_lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, int]]:
    """The integer fields of each job's log line."""
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("job id=")]
    return [{key: int(value) for key, value in re.findall(r"(\w+)=(\d+)(?= )", line)} for line in lines]


def same(one: Reply, other: Reply) -> None:
    np.testing.assert_array_equal(one.vectors, other.vectors)
    np.testing.assert_array_equal(one.token_counts, other.token_counts)
    np.testing.assert_array_equal(one.truncated, other.truncated)
    assert one.failures == other.failures


async def test_repeats_within_a_job_get_the_same_answer(redis: Redis, server: EmbeddedServer) -> None:
    """Vectors, counts, truncation and failures at each of their indices, as if each had come alone."""
    texts = ["a", LONG, "b", "a", 7, LONG, "a", "c"]
    async with worker(server.url), Client(server.url, model=MODEL) as client:
        for truncate in ("END", "NONE"):
            options = EmbedOptions(truncate=truncate)
            whole = await client.embed(texts, options)
            alone = [await client.embed([text], options) for text in texts]
            for index, one in enumerate(alone):
                np.testing.assert_array_equal(whole.vectors[index], one.vectors[0])
                assert whole.token_counts[index] == one.token_counts[0]
                assert (index in whole.truncated) == (len(one.truncated) == 1)
            failed = {index for index, one in enumerate(alone) if one.failures}
            assert {failure.index for failure in whole.failures} == failed


async def test_texts_in_flight_are_coalesced_across_jobs(
    redis: Redis, server: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says how many got the vector of an equal text."""
    caplog.set_level(logging.INFO)
    texts = [f"text {n}" for n in range(50)]
    async with worker(server.url, backend={"delay_s": 0.3}), Client(server.url, model=MODEL) as client:
        asked = [client.embed([*texts, f"job {n}", f"job {n}"]) for n in range(4)]
        replies = await asyncio.gather(*asked)
    for reply in replies:
        np.testing.assert_array_equal(reply.vectors[:50], replies[0].vectors[:50])
        np.testing.assert_array_equal(reply.vectors[50], reply.vectors[51])
    # All but one job got the 50 from another, and each repeats one text itself.
    assert sum(line["repeated"] for line in job_lines(caplog)) == 3 * 50 + 4


@pytest.mark.parametrize("store", ["redis", "disk"])
async def test_a_cached_text_is_answered_as_it_was(
    redis: Redis, server: EmbeddedServer, store: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By another worker, for other dimensions and element types; new texts are computed."""
    caplog.set_level(logging.INFO)
    settings: dict[str, Any] = {"vector_cache": "redis" if store == "redis" else str(tmp_path / "cache")}
    first = ["a", LONG, "b", 7, "a"]
    kinds = [EmbedOptions(truncate="END", embedding_type=kind) for kind in ("float32", "float16", "int8")]
    async with worker(server.url), Client(server.url, model=MODEL) as client:
        plain = [await client.embed([*first, "new"], kind) for kind in kinds]
    async with worker(server.url, **settings), Client(server.url, model=MODEL) as client:
        await client.embed(first, kinds[0])
    async with worker(server.url, **settings), Client(server.url, model=MODEL) as client:
        for expected, kind in zip(plain, kinds, strict=True):
            same(await client.embed([*first, "new"], kind), expected)
        refused = await client.embed([LONG, "a"])
    assert [line["cached"] for line in job_lines(caplog)] == [0, 0, 0, 0, 3, 4, 4, 0]
    assert [failure.code for failure in refused.failures] == ["text_too_long"]


async def test_a_cache_directory_that_cannot_be_made_is_refused(
    redis: Redis, server: EmbeddedServer, tmp_path: Path
) -> None:
    """At startup, naming the setting."""
    (tmp_path / "file").write_text("in the way")
    place = str(tmp_path / "file" / "cache")
    chosen = Settings(model=MODEL, redis_url=server.url, vector_cache=place)
    with pytest.raises(SettingsError, match=r"EMBEDMILL_VECTOR_CACHE: .*name a writable directory"):
        await serve(chosen, booted(chosen))
