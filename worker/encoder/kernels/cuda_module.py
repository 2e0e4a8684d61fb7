"""Compiles and launches CUDA sources through NVIDIA's low-level bindings.

Torch installs these bindings; cuda-core would shorten this file but add a dependency to every torch worker.

https://docs.nvidia.com/cuda/nvrtc/ and https://nvidia.github.io/cuda-python/cuda-bindings/
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

KernelArgument = tuple[Any, Any]  #: a value and its ctypes type, None for the bindings' own types


class Kernel:
    """One kernel of a CUDA source, compiled for the current device.

    Raises ImportError without the bindings, and RuntimeError if the compiler or the driver fails.
    """

    def __init__(self, source: bytes, name: str, *, defines: Mapping[str, int], shared_bytes: int) -> None:
        """Each launch gets `shared_bytes` of dynamic shared memory."""
        from cuda.bindings import driver

        self._driver = driver
        self._shared_bytes = shared_bytes
        self._module = _check(driver.cuModuleLoadData(compile_cubin(source, defines)))
        self._function = _check(driver.cuModuleGetFunction(self._module, name.encode()))
        attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        _check(driver.cuFuncSetAttribute(self._function, attribute, shared_bytes))

    def launch(self, grid: tuple[int, int], threads: int, arguments: Sequence[KernelArgument]) -> None:
        """Launch on torch's current stream; can be captured into a CUDA graph."""
        values, types = zip(*arguments, strict=True)
        stream = torch.cuda.current_stream().cuda_stream
        _check(
            self._driver.cuLaunchKernel(
                self._function, *grid, 1, threads, 1, 1, self._shared_bytes, stream, (values, types), 0
            )
        )


def compile_cubin(source: bytes, defines: Mapping[str, int]) -> bytes:
    """Compile for compute capability 9.0. Raises RuntimeError with the compiler's log."""
    from cuda.bindings import nvrtc

    program = _check(nvrtc.nvrtcCreateProgram(source, b"kernel.cu", 0, [], []))
    options = [b"--gpu-architecture=sm_90a", b"--std=c++17"]
    options += [f"-D{name}={value}".encode() for name, value in defines.items()]
    (failed,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    if failed:
        text = bytes(_check(nvrtc.nvrtcGetProgramLogSize(program)))
        _check(nvrtc.nvrtcGetProgramLog(program, text))
        raise RuntimeError(f"the CUDA source does not compile: {text.decode(errors='replace'):.500}")
    code = bytes(_check(nvrtc.nvrtcGetCUBINSize(program)))
    _check(nvrtc.nvrtcGetCUBIN(program, code))
    _check(nvrtc.nvrtcDestroyProgram(program))
    return code


def tensor_map(rows: torch.Tensor, *, columns: int, num_rows: int) -> Any:
    """A tensor map of 16-bit `rows` (T, width), for bulk copies of boxes of `num_rows` x `columns`.

    A row of a box has 128 bytes, with the 128-byte swizzle; rows beyond the last one are filled with zeros.
    """
    from cuda.bindings import driver

    if rows.dtype == torch.bfloat16:
        kind = driver.CUtensorMapDataType.CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
    else:
        kind = driver.CUtensorMapDataType.CU_TENSOR_MAP_DATA_TYPE_FLOAT16
    long, short = driver.cuuint64_t, driver.cuuint32_t
    return _check(
        driver.cuTensorMapEncodeTiled(
            kind,
            2,
            rows.data_ptr(),
            [long(rows.shape[1]), long(rows.shape[0])],
            [long(rows.stride(0) * rows.element_size())],
            [short(columns), short(num_rows)],
            [short(1), short(1)],
            driver.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE,
            driver.CUtensorMapSwizzle.CU_TENSOR_MAP_SWIZZLE_128B,
            driver.CUtensorMapL2promotion.CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
            driver.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        )
    )


def _check(returned: tuple[Any, ...]) -> Any:
    """A call's results without the status. Raises RuntimeError if it failed."""
    failed, *rest = returned
    if failed:
        raise RuntimeError(f"the CUDA driver or compiler failed with {failed!s}")
    return rest[0] if rest else None
