"""The one place where PyTorch's errors become ours."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from producer.errors import BackendDead, BackendError, BackendOutOfMemory


@contextmanager
def torch_errors() -> Iterator[None]:
    """Raise BackendOutOfMemory, BackendDead or BackendError for what PyTorch raises in the block."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise BackendOutOfMemory("the GPU is out of memory; send a smaller batch") from error
    except torch.AcceleratorError as error:
        raise BackendDead("the GPU does not answer any more; restart the worker") from error
    except RuntimeError as error:
        raise BackendError(f"PyTorch refused: {error!s:.200}") from error
