"""The one place where PyTorch's errors become ours."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from producer.errors import BackendDead, BackendError, BackendOutOfMemory

# Not every allocation goes through PyTorch's own allocator, whose error has a class.
_NO_ROOM = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "can't allocate memory")


@contextmanager
def torch_errors() -> Iterator[None]:
    """Raise BackendOutOfMemory, BackendDead or BackendError for what PyTorch raises in the block."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise BackendOutOfMemory("the device is out of memory; send a smaller batch") from error
        if isinstance(error, torch.AcceleratorError):
            raise BackendDead("the GPU does not answer any more; restart the worker") from error
        raise BackendError(f"PyTorch refused: {error!s:.200}") from error


def is_out_of_memory(error: RuntimeError) -> bool:
    """True if there was no room: for a tensor, for what CUDA and cuBLAS allocate themselves, on the host."""
    return isinstance(error, torch.OutOfMemoryError) or any(sign in str(error) for sign in _NO_ROOM)
