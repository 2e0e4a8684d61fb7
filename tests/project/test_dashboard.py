"""The Grafana dashboard: asks for metrics and labels that exist, and is laid out without gaps."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from support.paths import ROOT

from worker.telemetry.counters import Counters
from worker.telemetry.prometheus import (
    PREFIX,
    QUEUE_METRICS,
    SUPERVISOR_METRICS,
    WORKER_METRICS,
    MetricSpec,
    WorkerSample,
    worker_families,
)
from worker.telemetry.report import Report

DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/embedmill.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
VARIABLES = DASHBOARD["templating"]["list"]
DOCUMENTED = re.findall(r"```promql\n(.*?)```", (ROOT / "docs/howto/monitoring.md").read_text(), re.DOTALL)
ADDED_BY_PROMETHEUS = {"instance", "job", "le"}


def series() -> Iterator[tuple[str, frozenset[str]]]:
    """Names and labels as Prometheus gets them, `le` left out."""

    def told(spec: MetricSpec, *labels: str) -> Iterator[tuple[str, frozenset[str]]]:
        endings = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
        for ending in endings[spec.kind]:
            yield PREFIX + spec.name + ending, frozenset(filter(None, (*labels, spec.label)))

    for spec in (*WORKER_METRICS, *SUPERVISOR_METRICS):
        yield from told(spec, "model", "device")
    for spec in QUEUE_METRICS:
        yield from told(spec, "model")
    yield PREFIX + "queue_up", frozenset({"model"})
    names = ("device_name", "profile", "profile_id", "backend", "precision")
    report = Report(
        state="serving",
        profile=dict.fromkeys(names, "x"),
        profiles_failed=("y",),
        numbers=Counters().numbers(),
    )
    sample = WorkerSample(device="0", state="serving", num_starts=1, num_hangs=0, report=report)
    [info] = [one for one in worker_families("m", [sample]) if one.name == PREFIX + "profile_info"]
    yield info.name, frozenset(info.samples[0].labels)


SERIES = dict(series())


def labels_of(query: str) -> set[str]:
    """Labels that the query matches or groups by."""
    matched = re.findall(r'(\w+)\s*(?:=~|!=|!~|=)\s*"', query)
    grouped = re.findall(r"\b(?:by|without)\s*\(([^)]*)\)", query)
    return {*matched, *(label for group in grouped for label in re.split(r"[,\s]+", group))}


@pytest.mark.parametrize("query", [*QUERIES, *(variable["query"]["query"] for variable in VARIABLES[1:])])
def test_what_is_asked_for_exists(query: str) -> None:
    """Every metric by its full name, with every label; brackets are closed."""
    names = re.findall(r"\bembedmill_\w+", query)
    assert names
    assert set(names) <= set(SERIES)
    for name in names:
        assert labels_of(query) <= SERIES[name] | ADDED_BY_PROMETHEUS, name
    for opening, closing in ("()", "{}", "[]"):
        assert query.count(opening) == query.count(closing)


def test_the_documented_queries_exist_too() -> None:
    """What docs/howto/monitoring.md shows can be pasted."""
    names = {name for text in DOCUMENTED for name in re.findall(r"\bembedmill_\w+", text)}
    assert names
    assert names <= set(SERIES)


def test_every_metric_is_on_the_dashboard() -> None:
    """A new one finds its place there or this test finds it."""
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"embedmill_\w+", str(QUERIES))}
    exported = {re.sub(r"_(bucket|sum|count)$", "", name) for name in SERIES}
    assert exported == shown


def test_panels_lie_beside_each_other() -> None:
    """No two share a place, none leaves the grid of 24 columns, all have ids of their own."""
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    cells = [
        (at["x"] + right, at["y"] + down)
        for at in places
        for right in range(at["w"])
        for down in range(at["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) == 23
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_the_data_source_is_chosen_by_who_looks() -> None:
    """No panel names a data source of ours, and none of our counters is shown without a rate."""
    assert VARIABLES[0]["type"] == "datasource"
    asked = [*PANELS, *(target for panel in PANELS for target in panel["targets"]), *VARIABLES[1:]]
    assert {one["datasource"]["uid"] for one in asked} == {"${datasource}"}
    for query in QUERIES:
        for name in re.findall(r"(\S*)embedmill_\w+_total", query):
            assert name.endswith(("rate(", "increase(")), query
