"""Translates PyTorch's errors into the project's."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from producer.errors import BackendDead, BackendError, BackendOutOfMemory

# Only PyTorch's allocator raises OutOfMemoryError; CUDA, cuBLAS and the host allocator do not.
_OUT_OF_MEMORY = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "can't allocate memory")


@contextmanager
def torch_errors() -> Iterator[None]:
    """Raise BackendOutOfMemory, BackendDead or BackendError for what PyTorch raises in the block."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise BackendOutOfMemory("the device is out of memory; send a smaller batch") from error
        if isinstance(error, torch.AcceleratorError):
            raise BackendDead("the GPU no longer responds; restart the worker") from error
        raise BackendError(f"PyTorch failed: {error!s:.200}") from error


def is_out_of_memory(error: RuntimeError) -> bool:
    """True if an allocation failed: of a tensor, in CUDA or cuBLAS, or on the host."""
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in _OUT_OF_MEMORY)
