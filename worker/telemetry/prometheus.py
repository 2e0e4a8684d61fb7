"""Every metric by name, and the table from which a host's are made; docs/operations.md explains each."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from worker.telemetry.report import Report

PREFIX = "embedmill_"
STATES = ("serving", "starting", "disconnected", "hung", "silent", "down")


@dataclass(frozen=True, slots=True)
class Exported:
    """A field and the metric it becomes; with `label` the field maps that label's values to numbers."""

    field: str
    kind: Literal["counter", "gauge", "histogram"]
    name: str
    help: str
    label: str = ""


# Fields of worker.telemetry.counters.Tally, told by each worker process.
OF_WORKER = (
    Exported("texts", "counter", "texts", "Texts answered with a vector."),
    Exported("texts_failed", "counter", "texts_failed", "Texts without a vector, by error code.", "code"),
    Exported("texts_truncated", "counter", "texts_truncated", "Texts cut to the model's limit."),
    Exported("tokens", "counter", "tokens", "Tokens of the texts answered with a vector."),
    Exported("texts_repeated", "counter", "texts_repeated", "Texts whose equal was in flight already."),
    Exported("cache_hits", "counter", "cache_hits", "Texts whose vector came from the vector cache."),
    Exported("cache_misses", "counter", "cache_misses", "Texts looked up in the vector cache in vain."),
    Exported("jobs", "counter", "jobs", "Jobs ended, by `ok` or the code of their failure.", "code"),
    Exported("job_tries", "counter", "job_tries", "Tries that the ended jobs took."),
    Exported("job_s", "histogram", "job_seconds", "From enqueued to answered, a job."),
    Exported("job_stage_s", "histogram", "job_stage_seconds", "Time a job spent in a stage.", "stage"),
    Exported("leases_lost", "counter", "leases_lost", "Jobs taken from a worker that still ran them."),
    Exported("batches", "counter", "batches", "Batches that gave their vectors."),
    Exported("batch_texts", "counter", "batch_texts", "Texts in those batches."),
    Exported("batch_tokens", "counter", "batch_tokens", "Tokens in those batches, without padding."),
    Exported("batch_cost_tokens", "counter", "batch_cost_tokens", "Tokens computed, with padding."),
    Exported("batch_budget_tokens", "counter", "batch_room_tokens", "Tokens those batches had room for."),
    Exported("batch_s", "histogram", "batch_seconds", "From launch to vectors, a batch."),
    Exported("batch_fill", "histogram", "batch_fill_ratio", "Share of its token budget a batch used."),
    Exported("budget_tokens", "gauge", "budget_tokens", "Token budget of a batch; less after out of memory."),
    Exported("busy_s", "counter", "device_busy_seconds", "Time with at least one batch on the device."),
)

# Fields of producer.queue.status.QueueStatus, asked of Redis at the scrape; the same from every host.
OF_QUEUE = (
    Exported("pending", "gauge", "queue_pending_jobs", "Jobs that no worker has claimed."),
    Exported("running", "gauge", "queue_running_jobs", "Jobs that run, or pause before their next try."),
    Exported("num_bytes", "gauge", "queue_bytes", "Bytes of text of pending and running jobs."),
    Exported("next_age_s", "gauge", "queue_age_seconds", "Age of the job that is claimed next."),
    Exported("dead", "gauge", "queue_dead_letters", "Jobs given up and kept."),
    Exported("num_workers", "gauge", "queue_workers", "Live worker processes on all hosts."),
    Exported("ended", "counter", "queue_jobs", "Jobs ended on all hosts, by outcome.", "outcome"),
    Exported("lost_leases", "counter", "queue_leases_lost", "Leases that ran out or were left by the dead."),
)

# Facts of the parent process itself.
OF_HOST = (
    Exported("state", "gauge", "worker_state", "1 for the state the worker process is in, else 0.", "state"),
    Exported("num_starts", "counter", "worker_starts", "Processes started for the device."),
    Exported("profiles_failed", "gauge", "profile_failed", "1 for a profile that failed here.", "profile"),
)
PROFILE_INFO = Exported("profile", "gauge", "profile_info", "1; its labels tell the device and the profile.")
QUEUE_UP = Exported("queue_up", "gauge", "queue_up", "1 if Redis answered this scrape, else 0.")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSample:
    """The process of one device at the scrape; `report` is None unless it answered."""

    device: str
    state: str
    num_starts: int
    report: Report | None


def worker_families(model: str, workers: Iterable[WorkerSample]) -> Iterator[Metric]:
    """The metrics of a host's worker processes, each with the labels `model` and `device`."""
    samples = list(workers)
    told = [(one.device, one.report) for one in samples if one.report is not None]
    for row in OF_WORKER:
        yield _family(row, {(model, device): report.numbers[row.field] for device, report in told})
    facts = {(model, one.device): _facts(one) for one in samples}
    for row in OF_HOST:
        yield _family(row, {labels: each[row.field] for labels, each in facts.items()})
    labels = ("model", "device", "device_name", "profile", "profile_id", "backend", "precision")
    info = GaugeMetricFamily(PREFIX + PROFILE_INFO.name, PROFILE_INFO.help, labels=labels)
    for device, report in told:
        info.add_metric((model, device, *(report.profile[label] for label in labels[2:])), 1)
    yield info


def queue_families(model: str, status: Mapping[str, Any] | None) -> Iterator[Metric]:
    """The metrics of the queue from a QueueStatus as a mapping, or that Redis did not answer."""
    up = 0 if status is None else 1
    yield _family(QUEUE_UP, {(model,): up}, labels=("model",))
    if status is None:
        return
    fields = {
        **status,
        "next_age_s": status["next_age_s"] or 0.0,
        "num_workers": len(status["workers"]),
        "ended": {outcome: status[outcome] for outcome in ("done", "failed", "cancelled")},
    }
    for row in OF_QUEUE:
        yield _family(row, {(model,): fields[row.field]}, labels=("model",))


def _facts(worker: WorkerSample) -> dict[str, Any]:
    failed = worker.report.profiles_failed if worker.report is not None else ()
    return {
        "state": {state: int(state == worker.state) for state in STATES},
        "num_starts": worker.num_starts,
        "profiles_failed": dict.fromkeys(failed, 1),
    }


def _family(
    row: Exported, values: Mapping[tuple[str, ...], Any], *, labels: tuple[str, ...] = ("model", "device")
) -> Metric:
    samples = dict(values)
    if row.label:
        labels = (*labels, row.label)
        samples = {(*known, key): one for known, each in values.items() for key, one in each.items()}
    if row.kind == "histogram":
        histogram = HistogramMetricFamily(PREFIX + row.name, row.help, labels=labels)
        for label_values, one in samples.items():
            histogram.add_metric(label_values, buckets=_buckets(one), sum_value=one["total"])
        return histogram
    kind = CounterMetricFamily if row.kind == "counter" else GaugeMetricFamily
    family = kind(PREFIX + row.name, row.help, labels=labels)
    for label_values, value in samples.items():
        family.add_metric(label_values, value)
    return family


def _buckets(histogram: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Prometheus counts cumulatively: each bucket holds all values up to its bound."""
    bounds = [*(str(float(bound)) for bound in histogram["bounds"]), "+Inf"]
    return list(zip(bounds, accumulate(histogram["counts"]), strict=True))
