"""CUDA sources compile for their GPU without one, if NVIDIA's compiler is installed."""

import importlib
from pathlib import Path
from typing import Any

import pytest

import worker

pytestmark = pytest.mark.peers
SOURCE = Path(worker.__file__).parent / "encoder" / "kernels" / "hopper_attention.cu"


@pytest.fixture(scope="module")
def cuda_module() -> Any:
    """The module under test."""
    pytest.importorskip("cuda.bindings", reason="needs cuda-bindings and nvidia-cuda-nvrtc")
    return importlib.import_module("worker.encoder.kernels.cuda_module")


@pytest.mark.parametrize(("heads", "kv_heads", "bf16"), [(12, 12, 0), (16, 16, 1), (32, 8, 1)])
def test_attention_compiles_for_hopper(cuda_module: Any, heads: int, kv_heads: int, bf16: int) -> None:
    """For the heads of every network, and the machine code contains the kernel's name."""
    code = cuda_module.compile_cubin(
        SOURCE.read_bytes(), {"HEADS": heads, "KV_HEADS": kv_heads, "BF16": bf16}
    )
    assert code.startswith(b"\x7fELF")
    assert b"attend" in code


def test_a_source_that_does_not_compile_says_why(cuda_module: Any) -> None:
    """With the compiler's log."""
    with pytest.raises(RuntimeError, match='identifier "nobody" is undefined'):
        cuda_module.compile_cubin(b"__device__ int x = nobody;", {})
