"""Runs a dataset: reads, embeds, writes and commits parts concurrently, in order, in bounded memory."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from producer.bulk import DEFAULT_BATCH_TEXTS, DEFAULT_MAX_IN_FLIGHT, Summary, in_thread
from producer.contract import EmbedOptions, Provenance, Reply
from producer.datasets.assembly import assemble
from producer.datasets.dataset import Dataset
from producer.datasets.earlier import EarlierVectors
from producer.datasets.identity import FoundIdentity, RunIdentity, check_found
from producer.datasets.lock import RunLock
from producer.datasets.open_part import OpenPart
from producer.datasets.progress import RunProgress
from producer.datasets.steps import Step, StepReader

_MAX_COMMITS = 2  # parts that are made whole while the next are embedded


class TextEmbedder(Protocol):
    """The part of a client that a run needs; `producer.client.Client` has it."""

    async def embed(self, texts: Sequence[object], options: EmbedOptions) -> Reply: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """How a run ended: `num_reused` rows were taken from earlier parts, `num_duplicates` left out.

    `unreadable` has a sentence for each input that could not be read; the others are done.
    """

    summary: Summary
    num_parts: int
    num_reused: int
    num_duplicates: int
    unreadable: tuple[str, ...]


async def run_dataset(
    client: TextEmbedder,
    dataset: Dataset,
    lock: RunLock,
    *,
    batch_texts: int = DEFAULT_BATCH_TEXTS,
    max_in_flight: int = DEFAULT_MAX_IN_FLIGHT,
    on_progress: Callable[[Summary], None] = lambda summary: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> RunResult:
    """Do all tasks of the dataset, whose lock the caller holds, and write its manifest.

    At most `max_in_flight` jobs of `batch_texts` texts or 8 MiB wait for their vectors. Whatever ends it
    early, finished parts count and the rows of the others are kept. Raises FileError for the output, and
    whatever the client raises.
    """
    with EarlierVectors(dataset.target, dataset.replaced, dataset.manifest.identity.found) as earlier:
        reader = StepReader(dataset, earlier, batch_texts=batch_texts)
        run = _Run(client, dataset, reader, earlier, lock, max_in_flight=max_in_flight)
        run.on_progress, run.on_note = on_progress, on_note
        try:
            await run.work()
        finally:
            await in_thread(run.abandon)
        await in_thread(run.finish)
        return run.result()


class _Run:
    """The state of one run."""

    def __init__(
        self,
        client: TextEmbedder,
        dataset: Dataset,
        reader: StepReader,
        earlier: EarlierVectors,
        lock: RunLock,
        *,
        max_in_flight: int,
    ) -> None:
        self.on_progress: Callable[[Summary], None] = lambda summary: None
        self.on_note: Callable[[str], None] = lambda note: None
        self._client = client
        self._dataset = dataset
        self._reader = reader
        self._earlier = earlier
        self._lock = lock
        self._max_in_flight = max_in_flight
        self._identity = dataset.manifest.identity
        self._progress = RunProgress(dataset, reader)
        self._commits: set[asyncio.Task[None]] = set()
        self._unreadable: list[str] = []
        self._failed_sources: set[str] = set()
        self._num_parts = 0
        self._num_reused = 0

    async def work(self) -> None:
        """Do every step in order, with as many jobs in flight as allowed."""
        steps = self._reader.steps()
        pending: deque[tuple[Step, asyncio.Task[Reply] | None]] = deque()
        try:
            while (step := await in_thread(partial(next, steps, None), self._reader.stop)) is not None:
                job = None
                if step.span is not None and step.span.texts:
                    job = asyncio.create_task(
                        self._client.embed(step.span.texts, self._dataset.settings.options)
                    )
                pending.append((step, job))
                for note in self._reader.new_notes():
                    self.on_note(note)
                while pending and self._is_due(pending):
                    await self._do(*pending.popleft())
            while pending:
                await self._do(*pending.popleft())
            await self._committed(0)
        finally:
            jobs = [job for _, job in pending if job is not None]
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, *self._commits, return_exceptions=True)
            await in_thread(steps.close)

    def finish(self) -> None:
        """Write the manifest, and remove what earlier runs left that no part of it is."""
        dataset = self._dataset
        manifest = dataset.manifest
        manifest.identity = self._identity
        self._lock.check()
        for part in dataset.replaced:  # those that have a successor by that name are not stale
            if manifest.parts.get(part.name) is part and part.source not in self._failed_sources:
                del manifest.parts[part.name]
                dataset.target.remove(part.name)
        if self._num_parts or dataset.replaced:
            dataset.target.write_manifest(manifest, is_only=dataset.settings.shard is None)
        dataset.target.tidy()

    def abandon(self) -> None:
        """Close what is not whole; its rows are kept."""
        while self._reader.open_parts:
            self._reader.open_parts.pop().abandon()

    def result(self) -> RunResult:
        """How the run ended."""
        return RunResult(
            summary=self._progress.summary(),
            num_parts=self._num_parts,
            num_reused=self._num_reused,
            num_duplicates=self._reader.num_duplicates,
            unreadable=tuple(self._unreadable),
        )

    def _is_due(self, pending: deque[tuple[Step, asyncio.Task[Reply] | None]]) -> bool:
        _, first = pending[0]
        in_flight = sum(job is not None for _, job in pending)
        return (
            first is None
            or first.done()
            or in_flight >= self._max_in_flight
            or len(pending) >= 2 * self._max_in_flight
        )

    async def _do(self, step: Step, job: asyncio.Task[Reply] | None) -> None:
        if step.error is not None:
            await self._give_up(step)
        elif step.span is not None:
            reply = None if job is None else await job
            await in_thread(partial(self._write, step, reply))
            self.on_progress(self._progress.summary())
        elif step.part is not None:
            await self._committed(_MAX_COMMITS - 1)
            self._commits.add(asyncio.create_task(self._commit(step.part, step)))

    def _write(self, step: Step, reply: Reply | None) -> None:
        assert step.part is not None
        assert step.span is not None
        if reply is not None:
            answer = FoundIdentity.of(reply)
            check_found(self._dataset.target.location, there=self._identity.found, answer=answer)
            self._identity = RunIdentity(asked=self._identity.asked, found=answer)
        whole = assemble(
            step.span, reply, self._earlier, found=self._identity.found, source=self._earlier_source()
        )
        step.part.write(step.span, whole)
        self._num_reused += step.span.num_rows - len(step.span.texts)
        self._progress.add(step.part, whole)

    def _earlier_source(self) -> Provenance | None:
        found = self._identity.found
        profiles = [profile for part in self._dataset.replaced for profile in part.profiles]
        if found is None or not profiles:
            return None
        first = profiles[0]
        return Provenance(
            model=found.model,
            revision=found.revision,
            profile_id=first["id"],
            profile_name=first["name"],
            precision=first["precision"],
        )

    async def _commit(self, part: OpenPart, step: Step) -> None:
        def commit() -> None:
            self._lock.check()
            finished = part.commit(self._identity, next_row=step.next_row, is_last=step.is_last)
            self._reader.open_parts.remove(part)
            self._dataset.manifest.parts[finished.name] = finished
            self._dataset.manifest.schema = part.schema or self._dataset.manifest.schema

        await in_thread(commit)
        self._num_parts += 1

    async def _committed(self, at_most: int) -> None:
        """Wait until at most so many commits are under way. Raises what one of them raised."""
        while len(self._commits) > at_most:
            done, self._commits = await asyncio.wait(self._commits, return_when=asyncio.FIRST_COMPLETED)
            for commit in done:
                commit.result()

    async def _give_up(self, step: Step) -> None:
        """Go on without an input that cannot be read."""
        assert step.error is not None
        assert step.task is not None
        self._failed_sources.add(step.task.source.name)
        self._unreadable.append(str(step.error))
        self.on_note(str(step.error))
        if step.part is not None:
            self._reader.open_parts.remove(step.part)
            await in_thread(step.part.abandon)
