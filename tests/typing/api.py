"""The public API as users annotate it: checked by mypy, never run."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from dataclasses import replace
from typing import Any, assert_type

import numpy as np
import numpy.typing as npt

from producer import (
    Client,
    EmbeddingType,
    EmbedOptions,
    InputType,
    JobState,
    Priority,
    QueuedJob,
    QueueLimits,
    Reply,
    Submission,
    SyncClient,
    TextFailure,
    Truncate,
)
from producer.errors import EmbedmillError, JobFailed, QueueFull, ResultTimeout
from selection import Choice, Facts, Manifest, Profile, Verdict, choose, load_facts, manifest_for, probe


def options() -> None:
    """Members and plain strings are both accepted; what is read back is a member."""
    given = EmbedOptions(input_type="query", truncate="END", dimensions=256, embedding_type="int8")
    same = EmbedOptions(
        input_type=InputType.QUERY,
        truncate=Truncate.END,
        dimensions=256,
        embedding_type=EmbeddingType.INT8,
    )
    assert_type(given == same, bool)
    assert_type(given.input_type, InputType | None)
    assert_type(EmbedOptions(prompt_name="s2p_query").prompt_name, str | None)
    assert_type(given.truncate, Truncate)
    assert_type(given.dimensions, int | None)
    assert_type(given.embedding_type, EmbeddingType)
    assert_type(replace(given, truncate=Truncate.START), EmbedOptions)
    EmbedOptions(InputType.QUERY)  # type: ignore[call-arg]
    EmbedOptions(prompt_name=InputType)  # type: ignore[arg-type]
    EmbedOptions(dimensions="256")  # type: ignore[arg-type]
    given.truncate = Truncate.NONE  # type: ignore[misc]


def reply(answer: Reply) -> None:
    """Arrays have their element types, failures are values."""
    assert_type(answer.vectors, npt.NDArray[np.generic])
    assert_type(answer.token_counts, npt.NDArray[np.int32])
    assert_type(answer.prompt_name, str | None)
    assert_type(answer.failures, tuple[TextFailure, ...])
    assert_type(answer.scale, float | None)
    assert_type(answer.ok, bool)
    for failure in answer.failures:
        assert_type((failure.index, failure.code, failure.message), tuple[int, str, str])


async def client(batches: AsyncIterator[Sequence[str]]) -> None:
    """The asynchronous client; a model is needed, texts may be any sequence."""
    limits = QueueLimits()
    async with Client("redis://localhost:6379", model="m", limits=limits, run="nightly") as one:
        assert_type(one, Client)
        assert_type(await one.embed(["a", "b"]), Reply)
        assert_type(await one.embed(("a",), EmbedOptions(), timeout_s=5.0, priority="high"), Reply)
        submission = await one.submit(["a"], job="mine", priority=Priority.LOW, wait_if_full=True)
        assert_type(submission, Submission)
        assert_type(submission.job, str)
        assert_type(await one.result(submission.job, consume=True), Reply)
        assert_type(await one.cancel(submission.job), bool)
        assert_type(await one.num_workers(), int)
        assert_type(await one.jobs(state=JobState.PENDING, run="nightly", min_age_s=60), list[QueuedJob])
        assert_type(await one.wait_for_run("nightly", timeout_s=60), int)
        assert_type((await one.purge(run="nightly")).num_ended, int)
        assert_type(await one.requeue_all(code="tries_exhausted"), Sequence[str])
        await one.pause(for_s=600)
        assert_type(await one.resume(), bool)
        assert_type(one.embed_many(batches), AsyncGenerator[Reply, None])
        async for answer in one.embed_many([["a"], ["b"]], max_in_flight=4):
            assert_type(answer, Reply)
        await one.embed("a", EmbedOptions(), 5.0)  # type: ignore[call-arg]
    Client("redis://localhost:6379")  # type: ignore[call-arg]


def sync_client() -> None:
    """The blocking client has the same results."""
    with SyncClient(model="m") as one:
        assert_type(one, SyncClient)
        assert_type(one.embed(["a"], EmbedOptions(truncate="END")), Reply)
        assert_type(one.submit(["a"]), Submission)
        assert_type(one.result("job"), Reply)
        assert_type(one.embed_many([["a"], ["b"]]), Iterator[Reply])
        assert_type(one.cancel("job"), bool)
        assert_type(one.num_workers(), int)
        assert_type(one.jobs(priority="low", max_jobs=10), list[QueuedJob])
        assert_type(one.drop_all(), Sequence[str])
        assert_type(one.resume(), bool)
        one.submit(["a"], wait_if_ful=True)  # type: ignore[call-arg]
        one.embed_many([["a"]], max_in_flight="4")  # type: ignore[arg-type]
    SyncClient(model="m", limits=10)  # type: ignore[arg-type]


def errors(error: EmbedmillError) -> None:
    """Codes and what some errors carry."""
    assert_type(error.code, str)
    if isinstance(error, QueueFull):
        assert_type(error.retry_after_s, float)
    if isinstance(error, JobFailed):
        assert_type(error.worker_code, str)
    assert_type(ResultTimeout("no result"), ResultTimeout)


def profiles(environ: dict[str, str], path: Any) -> None:
    """Selection is pure: facts and a manifest give a choice."""
    facts = load_facts(path) if path else probe(environ)
    assert_type(facts, Facts)
    manifest = manifest_for("all-MiniLM-L6-v2")
    assert_type(manifest, Manifest)
    choice = choose(facts, manifest, policy="rules")
    assert_type(choice, Choice)
    assert_type(choice.selected, Profile | None)
    assert_type(choice.verdicts, tuple[Verdict, ...])
