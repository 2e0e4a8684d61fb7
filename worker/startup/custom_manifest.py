"""Makes the manifest of a custom model: a profile for each kind of device, with ids from its graph."""

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from selection import Manifest, Profile
from selection.manifests.manifest import ModelCard, profile_tags, with_id
from worker.models.onnx.custom_files import find_custom_files
from worker.models.onnx.graph_file import GraphFile, read_graph

# To the vectors of the safetensors beside the graph; these bounds only ensure that both are the same model.
_MIN_COSINE = {"fp32": 0.99999, "fp16": 0.9999, "bf16": 0.999, "int8": 0.95}


def custom_manifest(place: Path, *, model: str, output: str | None = None) -> Manifest:
    """The manifest of a custom model, under the name `model`.

    Raises ModelError for a graph that is not understood.
    """
    found = find_custom_files(place, output=output)
    graph = read_graph(found.onnx, output=found.output)
    card = ModelCard(name=model, sources=(f"dir:{found.directory}",), weights_sha256=graph.sha256)
    profiles = tuple(with_id(_profile(graph, device), card) for device in ("cuda", "cpu"))
    return Manifest(model=card, profiles=profiles, path=found.onnx)


def _profile(graph: GraphFile, device: str) -> Profile:
    profile = Profile(
        id="",
        name=f"custom-{device}-{graph.precision}-onnx",
        backend="onnx",
        device=device,
        precision=graph.precision,
        min_cosine=_MIN_COSINE[graph.precision],
        why=f"{graph.path.name}, the graph of a custom model.",
    )
    return replace(profile, tags=MappingProxyType({**profile_tags(profile), "custom": "true"}))
