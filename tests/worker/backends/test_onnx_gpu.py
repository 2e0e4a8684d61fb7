"""ONNX Runtime's CUDA provider: parity with fp32 on the CPU, batch-mates, and memory that is freed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.random_networks import FAMILIES, flat, random_network, random_rows, worst_cosine

from producer.errors import BackendError, BackendOutOfMemory
from worker.backends import LoadOptions, load_backend
from worker.backends.onnx_session import CUDA, misplaced
from worker.models.model import read_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]
BOUNDS = {"fp32": 0.99999, "fp16": 0.9999}
#: Packed attention supports neither causal masks nor windows.
UNFIT = {
    "modernbert",
    "modernbert, biases",
    "qwen2",
    "qwen2, windows",
    "qwen3",
    "qwen3, biases",
    "llama",
    "llama, biases",
    "llama, stretched",
    "mistral",
    "mistral, both ways",
    "gemma2",
    "gemma3",
    "gemma3, both ways",
    "gemma3, stretched",
}


def embedded(backend: Any, rows: list[list[int]]) -> Any:
    return backend.collect(backend.launch(flat(rows)))


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - UNFIT))
def test_every_family_and_precision(tmp_path: Path, family: str) -> None:
    """Vectors agree with fp32 on the CPU within each precision's bound, alone and with batch-mates."""
    name, options = FAMILIES[family]
    random_network(name, options | {"initializer_range": 0.02}, tmp_path)
    model, rows = read_model(tmp_path), random_rows(200)
    reference = embedded(load_backend("onnx", model, LoadOptions(device="cpu", precision="fp32")), rows)
    for precision, bound in BOUNDS.items():
        backend = load_backend(
            "onnx", model, LoadOptions(device="cuda", precision=precision, max_batch_tokens=4096)
        )
        together = embedded(backend, rows)
        assert worst_cosine(together, reference) > bound, precision
        alone = np.concatenate([embedded(backend, [row]) for row in rows])
        assert worst_cosine(together, alone) > 0.9999, precision
        backend.close()


@pytest.mark.parametrize("family", sorted(UNFIT))
def test_attention_without_a_kernel_is_refused(tmp_path: Path, family: str) -> None:
    """So that the next profile is tried; nothing runs on the CPU instead."""
    random_network(*FAMILIES[family], tmp_path)
    with pytest.raises(BackendError, match="no packed attention"):
        load_backend("onnx", read_model(tmp_path), LoadOptions(device="cuda", precision="fp16"))


def test_the_work_is_on_the_gpu(tmp_path: Path) -> None:
    """Every heavy operator is the CUDA provider's."""
    random_network(*FAMILIES["bert"], tmp_path)
    backend: Any = load_backend("onnx", read_model(tmp_path), LoadOptions(device="cuda", precision="fp16"))
    assert misplaced(backend._session, CUDA) == []
    backend.close()


def test_two_batches_in_flight_and_two_backends(tmp_path: Path) -> None:
    """Neither order nor a second backend on the same GPU changes a vector."""
    random_network(*FAMILIES["bert"], tmp_path)
    model, rows = read_model(tmp_path), random_rows(200)
    first, second = (
        load_backend("onnx", model, LoadOptions(device="cuda", precision="fp16")) for _ in range(2)
    )
    handles = first.launch(flat(rows)), first.launch(flat(rows[:3])), second.launch(flat(rows))
    found = first.collect(handles[0]), first.collect(handles[1]), second.collect(handles[2])
    assert worst_cosine(found[0], found[2]) > 0.99999
    assert worst_cosine(found[0][:3], found[1]) > 0.9999
    second.close()
    assert np.isfinite(embedded(first, rows)).all()
    first.close()


def test_out_of_memory_is_reported_and_passes(tmp_path: Path) -> None:
    """A batch for which another program left no memory fails as such, and succeeds once there is memory."""
    import torch

    random_network(*FAMILIES["bert"], tmp_path)
    backend = load_backend(
        "onnx", read_model(tmp_path), LoadOptions(device="cuda", precision="fp32", max_batch_tokens=65_536)
    )
    full, small = flat([[5] * 100] * 655), flat([[5] * 100])
    before = embedded(backend, [[5] * 100])
    free, _ = torch.cuda.mem_get_info()
    other = torch.empty(free - 8 * 2**20, dtype=torch.uint8, device="cuda")
    with pytest.raises(BackendOutOfMemory):
        backend.collect(backend.launch(full))
    assert worst_cosine(backend.collect(backend.launch(small)), before) > 0.9999
    del other
    torch.cuda.empty_cache()
    assert np.isfinite(backend.collect(backend.launch(full))).all()
    backend.close()
