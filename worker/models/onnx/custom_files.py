"""Finds the ONNX graph in a custom model's directory."""

from dataclasses import dataclass
from pathlib import Path

import structlog

from producer.errors import ModelError

log = structlog.stdlib.get_logger(__name__)

_PLANS = (".plan", ".engine")
_DEFAULT = "model.onnx"  # the exporters' name of the full-precision graph among its variants


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomFiles:
    """The model's `directory` and its ONNX graph, in that directory or in its subfolder `onnx`.

    `output` is the name of the graph's output to use, None if it is to be recognised.
    """

    directory: Path
    onnx: Path
    output: str | None = None


def find_custom_files(place: Path, *, output: str | None = None) -> CustomFiles:
    """The files of a custom model; `place` is its directory or the graph itself.

    Raises ModelError if there is no graph, more than one candidate, or only a TensorRT plan.
    """
    if place.is_file() and place.suffix == ".onnx":
        return CustomFiles(directory=_directory(place), onnx=place, output=output)
    if place.is_file() and place.suffix in _PLANS:
        raise ModelError(_plan_refusal(place))
    if not place.is_dir():
        raise ModelError(
            f"the custom model {place} is not a directory; name one that contains a graph and a tokenizer"
        )
    graphs = _graphs(place, (".onnx",))
    plans = _graphs(place, _PLANS)
    if not graphs:
        if plans:
            raise ModelError(_plan_refusal(plans[0]))
        seen = ", ".join(sorted(path.name for path in place.iterdir())[:8]) or "nothing"
        raise ModelError(f"neither {place} nor its subfolder onnx has an .onnx graph; it contains {seen}")
    if plans:
        log.warning("custom_plan_ignored", reason=_plan_refusal(plans[0]))
    default = [path for path in graphs if path.name == _DEFAULT]
    if len(graphs) > 1 and not default:
        names = ", ".join(path.name for path in graphs)
        raise ModelError(
            f"{place} has several graphs: {names}; name the one to serve, such as "
            f"EMBEDMILL_CUSTOM_MODEL={graphs[0]}"
        )
    return CustomFiles(directory=place, onnx=(default or graphs)[0], output=output)


def _graphs(place: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files in the directory itself, or else in its subfolder `onnx`."""
    for folder in (place, place / "onnx"):
        found = sorted(path for path in folder.glob("*") if path.suffix in suffixes and path.is_file())
        if found:
            return found
    return []


def _directory(graph: Path) -> Path:
    return graph.parent.parent if graph.parent.name == "onnx" else graph.parent


def _plan_refusal(plan: Path) -> str:
    return (
        f"{plan.name} is a TensorRT plan of {plan.stat().st_size / 2**20:.1f} MiB that was built elsewhere, "
        "for one GPU model and TensorRT version; Embedmill only runs plans that it built itself: add the "
        ".onnx file that it was built from"
    )
