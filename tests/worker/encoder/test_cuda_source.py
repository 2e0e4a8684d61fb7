"""CUDA sources are compiled for their GPU without one, where NVIDIA's compiler is installed."""

import importlib
from pathlib import Path
from typing import Any

import pytest

import worker

pytestmark = pytest.mark.peers
SOURCE = Path(worker.__file__).parent / "encoder" / "kernels" / "hopper_attention.cu"


@pytest.fixture(scope="module")
def nvrtc() -> Any:
    """Our edge to the compiler."""
    pytest.importorskip("cuda.bindings", reason="needs cuda-bindings and nvidia-cuda-nvrtc")
    return importlib.import_module("worker.encoder.kernels.cuda_module")


@pytest.mark.parametrize(("heads", "kv_heads", "bf16"), [(12, 12, 0), (16, 16, 1), (32, 8, 1)])
def test_attention_compiles_for_hopper(nvrtc: Any, heads: int, kv_heads: int, bf16: int) -> None:
    """Machine code comes out for every network's heads, and the function the launcher asks for is in it."""
    code = nvrtc.compiled(SOURCE.read_bytes(), {"HEADS": heads, "KV_HEADS": kv_heads, "BF16": bf16})
    assert code.startswith(b"\x7fELF")
    assert b"attend" in code


def test_what_does_not_compile_says_why(nvrtc: Any) -> None:
    """In the compiler's own words."""
    with pytest.raises(RuntimeError, match='identifier "nobody" is undefined'):
        nvrtc.compiled(b"__device__ int x = nobody;", {})
