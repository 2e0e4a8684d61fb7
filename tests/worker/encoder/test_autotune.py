"""Autotuning of matmuls: the fastest algorithm by turns, kept for the next boot. Needs no GPU."""

import itertools
import json
import logging
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from worker.encoder.kernels import autotune  # noqa: E402 - torch may be missing
from worker.encoder.kernels.cublaslt import MatmulShape  # noqa: E402
from worker.encoder.kernels.matmul import Matmuls  # noqa: E402
from worker.models.network import Linear, Rows  # noqa: E402

pytestmark = pytest.mark.peers
UP = MatmulShape(rows=128, out=64, inner=32, dtype=torch.float16, kind="gelu")
DOWN = MatmulShape(rows=128, out=32, inner=64, dtype=torch.float16, kind="add")


@given(st.lists(st.floats(1.0, 9.0), min_size=1, max_size=30, unique=True))
def test_the_fastest_run_is_chosen(times: list[float]) -> None:
    """With a clock that does not vary."""
    runs: list[autotune.Run] = [partial(int, index) for index in range(len(times))]
    assert autotune.fastest(runs, lambda run, _ms: times[runs.index(run)]) == times.index(min(times))


def test_a_gpu_that_slows_down_does_not_decide() -> None:
    """Every measurement takes longer than the previous one, by less than runs differ: turns even that out."""
    times, measurements = [1.3, 1.0, 1.2, 1.1], itertools.count()
    runs: list[autotune.Run] = [partial(int, index) for index in range(4)]
    assert autotune.fastest(runs, lambda run, _ms: times[runs.index(run)] + 0.02 * next(measurements)) == 1


def test_one_disturbed_measurement_does_not_decide() -> None:
    """The median of the rounds counts."""
    measurements = iter([1.0, 2.0, 9.0, 2.0, 1.0, 2.0, 1.0, 2.0])
    assert autotune.fastest([lambda: 0, lambda: 1], lambda _run, _ms: next(measurements)) == 0


class StandIn:
    """A matmul whose library accepts some algorithms."""

    def __init__(self, accepted: set[bytes]) -> None:
        self.accepted = accepted

    def supports(self, algorithm: bytes) -> bool:
        """The library's answer."""
        return algorithm in self.accepted


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[MatmulShape]:
    """The shapes that were measured; an algorithm is fastest for UP, torch for DOWN."""
    measured: list[MatmulShape] = []

    def measure(_matmul: object, shape: MatmulShape, *_others: object) -> bytes:
        measured.append(shape)
        return b"\x07" * 64 if shape is UP else b""

    monkeypatch.setattr(autotune, "_fastest", measure)
    monkeypatch.setattr(autotune, "version", lambda: 130_100)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100 80GB HBM3")
    return measured


def tuned(cache: Path, *, accepted: bytes = b"\x07" * 64) -> dict[MatmulShape, bytes]:
    matmuls: Any = {UP: StandIn({accepted}), DOWN: StandIn({accepted})}
    chosen = autotune.autotune(matmuls, {UP: Any, DOWN: Any}, lambda: None, cache)  # type: ignore[dict-item]
    return {shape: algorithm for shape, (_, algorithm) in chosen.items()}


def test_what_is_found_is_kept(
    found: list[MatmulShape], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The next boot measures nothing and chooses the same; torch keeps what it computes fastest."""
    with caplog.at_level(logging.INFO):
        first = tuned(tmp_path)
    assert "autotuned" in caplog.text
    assert first == {UP: b"\x07" * 64}
    assert found == [UP, DOWN]
    assert tuned(tmp_path) == first
    assert found == [UP, DOWN]
    assert [path.name for path in tmp_path.glob("*.json")] == ["NVIDIA_H100_80GB_HBM3-130100.json"]


@pytest.mark.parametrize("content", ["", "[1]", json.dumps({str(UP): "zz"}), json.dumps({str(UP): 5})])
def test_a_damaged_file_is_measured_again(found: list[MatmulShape], tmp_path: Path, content: str) -> None:
    """Whatever it contains, and the file is rewritten."""
    path = tmp_path / "NVIDIA_H100_80GB_HBM3-130100.json"
    path.write_text(content)
    assert tuned(tmp_path) == {UP: b"\x07" * 64}
    assert UP in found
    assert json.loads(path.read_text())[str(UP)] == "07" * 64


def test_an_algorithm_that_the_library_refuses_is_replaced(found: list[MatmulShape], tmp_path: Path) -> None:
    """As after a change that the file's name does not show."""
    tuned(tmp_path)
    tuned(tmp_path, accepted=b"\x08" * 64)
    assert found == [UP, DOWN, UP]


def test_without_a_writable_folder_nothing_is_kept(found: list[MatmulShape], tmp_path: Path) -> None:
    """The measurements are made all the same."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert tuned(blocked / "autotune") == {UP: b"\x07" * 64}
    assert found == [UP, DOWN]


def test_without_autotuning_torch_computes() -> None:
    """On any device."""
    x, weight, bias = torch.randn(5, 8), torch.randn(3, 8), torch.randn(3)
    matmuls, residual, rows = Matmuls(), torch.randn(5, 3), Rows(x)
    biased, bare = Linear(weight=weight, bias=bias), Linear(weight=weight, bias=None)
    expected = residual + x @ weight.T
    assert torch.allclose(matmuls.linear(rows, biased), x @ weight.T + bias, atol=1e-6)
    assert torch.allclose(matmuls.linear(rows, bare), x @ weight.T, atol=1e-6)
    assert torch.allclose(matmuls.add(rows, biased, residual), expected, atol=1e-6)
    assert torch.allclose(residual, expected, atol=1e-6)


def test_without_the_library_torch_computes(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A failure costs speed, never the boot, and is logged."""

    def fails(*_args: object, **_keywords: object) -> None:
        raise OSError("libcublasLt.so: cannot open shared object file")

    monkeypatch.setattr(torch.cuda, "device", fails)
    matmuls, layer = Matmuls(tmp_path), Linear(weight=torch.zeros(3, 8), bias=torch.zeros(3))
    with caplog.at_level(logging.WARNING):
        matmuls.autotune([("bias", layer)], 128)
    assert "autotune_failed" in caplog.text
    monkeypatch.undo()
    assert matmuls.linear(Rows(torch.zeros(128, 8)), layer).shape == (128, 3)
