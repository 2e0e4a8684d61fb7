"""Real plans, built ahead of time on the CPU by TensorRT for RTX, and read back from their own bytes."""

import re
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from support.random_networks import FAMILIES, random_network
from support.small_network import small_architecture, small_model, small_tokens, small_weights

from producer.errors import BackendError
from selection.machine.facts import Capability, Plan
from worker.engines.builder import Progress, build_plan
from worker.engines.calibration import calibrate
from worker.engines.shapes import Shape
from worker.engines.spec import EngineSpec
from worker.engines.timing_cache import timing_cache_path
from worker.graphs.builder import Graph
from worker.graphs.padded.graph import build_padded_graph
from worker.models.architecture import Architecture
from worker.models.dense import ACTIVATIONS, Dense
from worker.models.layer_norm import LayerNorm
from worker.models.model import Model, read_model
from worker.models.rope import Rope
from worker.models.weights import Weights, read_weights

library = pytest.importorskip("tensorrt_rtx", reason="needs the extra tensorrt-rtx")
pytestmark = pytest.mark.tensorrt

SHAPES = (Shape(16, 8), Shape(40, 3))
#: All that the library builds for, but Turing, which it refuses at run time.
CAPABILITIES: tuple[Capability, ...] = ((8, 0), (8, 6), (8, 9), (12, 0), (12, 1))
WITH_FP8: tuple[Capability, ...] = ((8, 9), (12, 0), (12, 1))


def spec(capability: Capability, precision: str = "fp16") -> EngineSpec:
    plan = Plan(
        profile_id="p" * 64,
        library="tensorrt_rtx",
        version=library.__version__,
        os="linux",
        cpu_architecture="x86_64",
        level="same-capability",
        capability=capability,
    )
    return EngineSpec(plan=plan, fingerprint="f", precision=precision, shapes=SHAPES)


def built(
    capability: Capability,
    precision: str,
    *,
    network: Architecture | None = None,
    tensorrt: Any = library,
    progress: Progress | None = None,
) -> bytes:
    """A plan of a small network."""
    network = network or small_architecture()
    model, weights = small_model(network), small_weights(network)
    return planned(model, weights, capability, precision, tensorrt=tensorrt, progress=progress)


def planned(
    model: Model,
    weights: Weights,
    capability: Capability,
    precision: str,
    *,
    tensorrt: Any = library,
    progress: Progress | None = None,
) -> bytes:
    """A plan of the model for SHAPES."""
    scales = calibrate(model, weights, small_tokens(5, 40)) if precision == "fp8" else None
    graph = build_padded_graph(model, weights, precision=precision, scales=scales).graph
    asked = spec(capability, precision)
    return build_plan(graph, asked, tensorrt, timing_cache=Path("unused"), progress=progress)


def tensors_of(plan: bytes) -> list[tuple[str, str, str]]:
    """Name, axes and type of every tensor, as the plan's own listing of its program has them."""
    found = re.findall(rb'tensor=\{[^\n]*?dims=\{ ([^}]*)\}[^\n]*?name="([^"]*)"[^\n]*?type=(\w+)', plan)
    return [(name.decode(), dims.decode().strip(), kind.decode()) for dims, name, kind in found]


def ends_of(plan: bytes) -> dict[str, list[tuple[str, str]]]:
    """The graph's inputs and output by name: for each shape the axes after the first, and the type."""
    ends: dict[str, list[tuple[str, str]]] = {}
    for name, dims, kind in tensors_of(plan):
        match = re.fullmatch(r"(ids|positions|lengths|num_unpooled|vectors)(?: \[profile \d+\])?\.1", name)
        if match:
            batch, _, rest = dims.partition(" ")
            assert not batch.isdecimal()  # the number of texts stays open
            ends.setdefault(match[1], []).append((rest, kind))
    return ends


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_fp16_plans_for_every_architecture(capability: Capability) -> None:
    """With our inputs and output, a shape each, products in half precision, for that capability only."""
    plan = built(capability, "fp16")
    assert ends_of(plan) == {
        "ids": [("16", "int32"), ("40", "int32")],
        "positions": [("16", "int32"), ("40", "int32")],
        "lengths": [("", "int32"), ("", "int32")],
        "vectors": [("64", "float"), ("64", "float")],
    }
    assert set(re.findall(rb"accelerators=\{(sm\d+) \}", plan)) == {"sm{}{}".format(*capability).encode()}
    assert set(re.findall(rb"out of bounds \[(\d+, \d+)\]", plan)) == {b"1, 8", b"1, 3"}
    kinds = Counter(kind for _, _, kind in tensors_of(plan))
    assert kinds["half"] > 20
    assert kinds["fp8_e4m3"] == 0


@pytest.mark.parametrize("precision", ["fp16", "fp8"])
def test_a_plan_of_a_model_that_leaves_prompts_out_of_pooling(precision: str) -> None:
    """It has one input more, also while it is calibrated."""
    model = small_model()
    model = replace(model, head=replace(model.head, include_prompt=False))
    plan = planned(model, small_weights(small_architecture()), (8, 9), precision)
    assert ends_of(plan)["num_unpooled"] == [("", "int32"), ("", "int32")]


def test_every_pooling_activation_and_module_builds(tmp_path: Path) -> None:
    """One head with all of them: joined poolings, a norm, a dense layer per activation, unit length."""
    poolings = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
    weight = np.eye(6 * 64, dtype=np.float32)
    for folder, tensors in {
        "dense": {"linear.weight": weight},
        "norm": {"norm.weight": weight[0], "norm.bias": weight[1]},
    }.items():
        (tmp_path / folder).mkdir()
        save_file(tensors, tmp_path / folder / "model.safetensors")
    size = len(weight)
    norm = LayerNorm(size=size, directory=tmp_path / "norm")
    denses = [
        Dense(in_features=size, out_features=size, bias=False, activation=name, directory=tmp_path / "dense")
        for name in ACTIVATIONS
    ]
    model = small_model(None, *poolings, denses=(norm, *denses))
    plan = planned(model, small_weights(small_architecture()), (8, 9), "fp16")
    assert ends_of(plan)["vectors"] == [(str(size), "float")] * 2


@pytest.mark.parametrize("capability", WITH_FP8)
def test_fp8_plans_where_gpus_have_it(capability: Capability) -> None:
    """All eight products of the network take two 8-bit operands, and the ends are those of fp16."""
    plan = built(capability, "fp8")
    assert ends_of(plan) == ends_of(built(capability, "fp16"))
    eight_bits = {name for name, _, kind in tensors_of(plan) if kind == "fp8_e4m3"}
    products = re.findall(rb'fully_connected=\{[^\n]*?input=\{"([^"]+)" "([^"]+)"', plan)
    both = [pair for pair in products if {each.decode() for each in pair} <= eight_bits]
    assert len(both) == 8 * len(SHAPES)


@pytest.mark.parametrize("precision", ["fp16", "fp8"])
def test_plans_of_a_decoder(precision: str) -> None:
    """With rotary positions, a window, RMS norms, a gate and heads that share keys and values."""
    network = small_architecture(
        kind="mistral",
        positions="rotary",
        ropes=(Rope(theta=1e4), Rope(theta=5e5)),
        windows=(0, 8),
        post_norm=False,
        norm="rms",
        norm_bias=False,
        embedding_norm=False,
        head_norm=True,
        gated=True,
        causal=True,
        kv_heads=2,
        activation="silu",
        biased=(),
        token_types=0,
    )
    plan = built((8, 9), precision, network=network)
    assert ends_of(plan) == ends_of(built((8, 9), "fp16"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("precision", ["fp16", "fp8"])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_plans_of_every_family(tmp_path: Path, family: str, precision: str) -> None:
    """From a saved model's own files: inputs, output and shapes are read back from the plan."""
    pytest.importorskip("transformers", reason="needs the extra peers")
    random_network(*FAMILIES[family], tmp_path)
    model = read_model(tmp_path)
    weights = read_weights(model.transformer, model.architecture)
    plan = planned(model, weights, (8, 9), precision)
    assert ends_of(plan) == {
        "ids": [("16", "int32"), ("40", "int32")],
        "positions": [("16", "int32"), ("40", "int32")],
        "lengths": [("", "int32"), ("", "int32")],
        "vectors": [(str(model.dim), "float")] * len(SHAPES),
    }
    kinds = Counter(kind for _, _, kind in tensors_of(plan))
    assert (kinds["fp8_e4m3"] > 0) == (precision == "fp8")


def test_a_parser_that_takes_only_whole_graphs_builds_the_same_network() -> None:
    """As those of older versions do."""

    class Older:
        def __init__(self, *arguments: Any) -> None:
            self._parser = library.OnnxParser(*arguments)
            self.parse = self._parser.parse

    older = SimpleNamespace(**{name: getattr(library, name) for name in dir(library)} | {"OnnxParser": Older})
    assert ends_of(built((8, 9), "fp16", tensorrt=older)) == ends_of(built((8, 9), "fp16"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("level", ["none", "same-capability"])
def test_the_way_of_the_data_centre_library(tmp_path: Path, level: str) -> None:
    """Its flags and its timing cache, through the interface that both share: it is not here itself."""
    cache = tmp_path / "timing/a.cache"
    asked = spec((8, 9))
    asked = replace(asked, plan=replace(asked.plan, library="tensorrt", level=level))
    model, weights = small_model(), small_weights(small_architecture())
    graph = build_padded_graph(model, weights, precision="fp16").graph
    for content in (None, b"a damaged cache"):
        if content is not None:
            cache.write_bytes(content)
        plan = build_plan(graph, asked, library, timing_cache=cache)
        assert ends_of(plan)["vectors"] == [("64", "float"), ("64", "float")]
        assert cache.read_bytes() not in (b"", content)


def test_timing_caches_are_kept_apart_by_version_and_gpu() -> None:
    """On any other GPU the library would refuse them."""
    one = spec((8, 9))
    named = replace(one, plan=replace(one.plan, gpu_name="NVIDIA H100 PCIe"))
    paths = {timing_cache_path(Path("plans"), each) for each in (one, spec((8, 6)), named)}
    assert len(paths) == 3
    assert Path(f"plans/timing/tensorrt_rtx-{library.__version__}-NVIDIA_H100_PCIe.cache") in paths


def test_fp8_is_refused_where_gpus_lack_it() -> None:
    """With what the library complained of, in one sentence."""
    with pytest.raises(BackendError, match=r"could not build the plan: .* sm86, .* fp8_e4m3") as failed:
        built((8, 6), "fp8")
    assert "\n" not in str(failed.value)


def test_an_architecture_it_does_not_build_for_is_refused() -> None:
    """As the H100, in one sentence."""
    with pytest.raises(BackendError, match=r"cannot build for compute capability 9\.0; choose another"):
        built((9, 0), "fp16")


def test_progress_is_told_and_may_end_the_build() -> None:
    """It rises to nearly all, and what it raises comes out."""
    shares: list[float] = []
    built((8, 9), "fp16", progress=shares.append)
    assert shares[0] < 0.1
    assert shares[-1] > 0.7
    assert np.diff(shares).min() >= 0

    def stop(share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        built((8, 9), "fp16", progress=stop)


def test_ctrl_c_ends_a_build() -> None:
    """At its next step, not when it is done; and works as before afterwards."""
    before = signal.getsignal(signal.SIGINT)
    shares: list[float] = []

    def press(share: float) -> None:
        shares.append(share)
        if len(shares) == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        built((8, 9), "fp16", progress=press)
    assert len(shares) < 10
    assert signal.getsignal(signal.SIGINT) is before


def test_a_graph_it_does_not_take_ends_in_one_sentence() -> None:
    """With what the parser complained of."""
    with pytest.raises(BackendError, match="does not accept the graph: ") as failed:
        build_plan(Graph(b"no graph", {}), spec((8, 9)), library, timing_cache=Path("unused"))
    assert "\n" not in str(failed.value)
