"""Choosing the algorithm of a product: the fastest by turns, kept for the next boot. No GPU is needed."""

import itertools
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from worker.encoder.kernels import autotune as tuning  # noqa: E402 - torch may be missing
from worker.encoder.kernels.cublaslt import MatmulShape  # noqa: E402
from worker.encoder.kernels.matmul import Matmuls  # noqa: E402
from worker.encoder.network import Linear, Rows  # noqa: E402

pytestmark = pytest.mark.peers
UP = MatmulShape(rows=128, out=64, inner=32, dtype=torch.float16, kind="gelu")
DOWN = MatmulShape(rows=128, out=32, inner=64, dtype=torch.float16, kind="add")


@given(st.lists(st.floats(1.0, 9.0), min_size=1, max_size=30, unique=True))
def test_the_fastest_run_is_chosen(times: list[float]) -> None:
    """With a clock that does not vary."""
    runs = [lambda index=index: index for index in range(len(times))]  # type: ignore[misc]
    assert tuning.fastest(runs, lambda run, _ms: times[run()]) == times.index(min(times))


def test_a_gpu_that_slows_down_does_not_decide() -> None:
    """Every look takes longer than the one before, by less than the runs differ: turns make that even."""
    times, looks = [1.3, 1.0, 1.2, 1.1], itertools.count()
    runs = [lambda index=index: index for index in range(4)]  # type: ignore[misc]
    assert tuning.fastest(runs, lambda run, _ms: times[run()] + 0.02 * next(looks)) == 1


def test_one_look_that_was_disturbed_does_not_decide() -> None:
    """The median of the rounds is what counts."""
    looks = iter([1.0, 2.0, 9.0, 2.0, 1.0, 2.0, 1.0, 2.0])
    assert tuning.fastest([lambda: 0, lambda: 1], lambda _run, _ms: next(looks)) == 0


class StandIn:
    """A product whose library takes some algorithms."""

    def __init__(self, taken: set[bytes]) -> None:
        self.taken = taken

    def takes(self, algorithm: bytes) -> bool:
        """What the library would say."""
        return algorithm in self.taken


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[MatmulShape]:
    """The shapes that were clocked; UP is fastest by an algorithm, DOWN by torch."""
    clocked: list[MatmulShape] = []

    def clock(_product: object, shape: MatmulShape, *_others: object) -> bytes:
        clocked.append(shape)
        return b"\x07" * 64 if shape is UP else b""

    monkeypatch.setattr(tuning, "_fastest", clock)
    monkeypatch.setattr(tuning, "version", lambda: 130_100)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100 80GB HBM3")
    return clocked


def tuned(cache: Path, *, taken: bytes = b"\x07" * 64) -> dict[MatmulShape, bytes]:
    products: Any = {UP: StandIn({taken}), DOWN: StandIn({taken})}
    chosen = tuning.tuned(products, {UP: Any, DOWN: Any}, lambda: None, cache)  # type: ignore[dict-item]
    return {shape: algorithm for shape, (_, algorithm) in chosen.items()}


def test_what_is_found_is_kept(
    found: list[MatmulShape], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The next boot clocks nothing and chooses the same; what torch does fastest stays torch's."""
    with caplog.at_level(logging.INFO):
        first = tuned(tmp_path)
    assert "products_tuned" in caplog.text
    assert first == {UP: b"\x07" * 64}
    assert found == [UP, DOWN]
    assert tuned(tmp_path) == first
    assert found == [UP, DOWN]
    assert [path.name for path in tmp_path.glob("*.json")] == ["NVIDIA_H100_80GB_HBM3-130100.json"]


@pytest.mark.parametrize("content", ["", "[1]", json.dumps({str(UP): "zz"}), json.dumps({str(UP): 5})])
def test_a_spoiled_file_is_found_anew(found: list[MatmulShape], tmp_path: Path, content: str) -> None:
    """Whatever it holds, and the file is mended."""
    path = tmp_path / "NVIDIA_H100_80GB_HBM3-130100.json"
    path.write_text(content)
    assert tuned(tmp_path) == {UP: b"\x07" * 64}
    assert UP in found
    assert json.loads(path.read_text())[str(UP)] == "07" * 64


def test_an_algorithm_that_the_library_refuses_is_found_anew(
    found: list[MatmulShape], tmp_path: Path
) -> None:
    """As after a change of something that the file's name does not tell."""
    tuned(tmp_path)
    tuned(tmp_path, taken=b"\x08" * 64)
    assert found == [UP, DOWN, UP]


def test_in_a_folder_that_cannot_be_made_nothing_is_kept(found: list[MatmulShape], tmp_path: Path) -> None:
    """The search is made all the same."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert tuned(blocked / "products") == {UP: b"\x07" * 64}
    assert found == [UP, DOWN]


def test_untuned_products_are_torchs() -> None:
    """On any device."""
    x, weight, bias = torch.randn(5, 8), torch.randn(3, 8), torch.randn(3)
    products, stream, rows = Matmuls(), torch.randn(5, 3), Rows(x)
    biased, bare = Linear(weight=weight, bias=bias), Linear(weight=weight, bias=None)
    expected = stream + x @ weight.T
    assert torch.allclose(products.linear(rows, biased), x @ weight.T + bias, atol=1e-6)
    assert torch.allclose(products.linear(rows, bare), x @ weight.T, atol=1e-6)
    assert torch.allclose(products.add(rows, biased, stream), expected, atol=1e-6)
    assert torch.allclose(stream, expected, atol=1e-6)


def test_where_no_library_is_torch_serves(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A failed search costs speed, never the boot; the log says it."""

    def fails(*_args: object, **_keywords: object) -> None:
        raise OSError("libcublasLt.so: cannot open shared object file")

    monkeypatch.setattr(torch.cuda, "device", fails)
    products, layer = Matmuls(tmp_path), Linear(weight=torch.zeros(3, 8), bias=torch.zeros(3))
    with caplog.at_level(logging.WARNING):
        products.tune([("bias", layer)], 128)
    assert "products_not_tuned" in caplog.text
    monkeypatch.undo()
    assert products.linear(Rows(torch.zeros(128, 8)), layer).shape == (128, 3)
