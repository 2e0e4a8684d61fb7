"""PyTorch's errors become the project's."""

import importlib
from typing import Any

import pytest

from producer.errors import BackendDead, BackendError, BackendOutOfMemory

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def torch() -> Any:
    """Torch, imported late: collecting these tests needs no inference library."""
    return importlib.import_module("torch")


@pytest.fixture(scope="module")
def torch_errors() -> Any:
    """The context manager under test."""
    return importlib.import_module("worker.encoder.torch_errors").torch_errors


def test_a_host_allocation_that_fails_is_out_of_memory(torch: Any, torch_errors: Any) -> None:
    """A real allocation that no machine can serve: the batch may be retried in parts."""
    with pytest.raises(BackendOutOfMemory), torch_errors():
        torch.empty(1 << 58, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2 GiB", BackendOutOfMemory),
        ("AcceleratorError", "CUDA error: out of memory\nSearch for `cudaErrorMemory'", BackendOutOfMemory),
        ("AcceleratorError", "CUDA error: an illegal memory access was encountered", BackendDead),
    ],
)
def test_errors_of_a_gpu(torch: Any, torch_errors: Any, kind: str, text: str, expected: type) -> None:
    """Only errors that leave the device usable may be retried."""
    with pytest.raises(expected) as caught, torch_errors():
        raise getattr(torch, kind)(text)
    assert type(caught.value) is expected


def test_other_errors_fail_the_batch_alone(torch: Any, torch_errors: Any) -> None:
    """cuBLAS that cannot allocate its workspace is out of memory, a wrong shape is not."""
    with pytest.raises(BackendOutOfMemory), torch_errors():
        raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
    with pytest.raises(BackendError) as caught, torch_errors():
        torch.ones(2, 3) @ torch.ones(2, 3)
    assert type(caught.value) is BackendError
