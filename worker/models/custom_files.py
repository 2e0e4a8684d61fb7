"""Which file of a custom model's directory is the graph."""

from dataclasses import dataclass
from pathlib import Path

import structlog

from producer.errors import ModelError

log = structlog.stdlib.get_logger(__name__)

_PLANS = (".plan", ".engine")
_USUAL = "model.onnx"  # what exporters call the one in full precision, whatever lies beside it


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFiles:
    """The model's `directory` and its ONNX graph, which lies in it or in its folder `onnx`."""

    directory: Path
    onnx: Path


def find_files(place: Path) -> FoundFiles:
    """The graph in a directory, or the directory of a graph that is named. Raises ModelError.

    A TensorRT plan is found and described, but not run: here is where one would be handed on.
    """
    if place.is_file() and place.suffix == ".onnx":
        return FoundFiles(directory=_directory(place), onnx=place)
    if place.is_file() and place.suffix in _PLANS:
        raise ModelError(_foreign(place))
    if not place.is_dir():
        raise ModelError(
            f"the custom model {place} is no directory; give one that holds a graph and a tokenizer"
        )
    graphs = _graphs(place, (".onnx",))
    plans = _graphs(place, _PLANS)
    if not graphs:
        if plans:
            raise ModelError(_foreign(plans[0]))
        seen = ", ".join(sorted(path.name for path in place.iterdir())[:8]) or "nothing"
        raise ModelError(f"{place} has no .onnx graph, nor has its folder onnx; it has {seen}")
    if plans:
        log.warning("custom_plan_left", reason=_foreign(plans[0]))
    usual = [path for path in graphs if path.name == _USUAL]
    if len(graphs) > 1 and not usual:
        names = ", ".join(path.name for path in graphs)
        raise ModelError(
            f"{place} has several graphs: {names}; name the one to serve, EMBEDMILL_CUSTOM_MODEL={graphs[0]}"
        )
    return FoundFiles(directory=place, onnx=(usual or graphs)[0])


def _graphs(place: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Of the directory itself, or else of its folder `onnx`."""
    for folder in (place, place / "onnx"):
        found = sorted(path for path in folder.glob("*") if path.suffix in suffixes and path.is_file())
        if found:
            return found
    return []


def _directory(graph: Path) -> Path:
    return graph.parent.parent if graph.parent.name == "onnx" else graph.parent


def _foreign(plan: Path) -> str:
    return (
        f"{plan.name} is a TensorRT plan of {plan.stat().st_size / 2**20:.1f} MiB that was built elsewhere, "
        "for one GPU and one version; only plans of our own building are run, put the .onnx it was made "
        "from there"
    )
