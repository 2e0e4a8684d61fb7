"""CUDA sources compiled for the current GPU and launched, through NVIDIA's own bindings, which torch brings.

https://docs.nvidia.com/cuda/nvrtc/ and https://nvidia.github.io/cuda-python/cuda-bindings/
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

Argument = tuple[Any, Any]  #: a value and its C type from ctypes; None for what knows it itself


class Kernel:
    """One function of a compiled source on the current device.

    Raises ImportError without the bindings, RuntimeError where the compiler or the driver refuses.
    """

    def __init__(self, source: bytes, name: str, *, defines: Mapping[str, int], shared_bytes: int) -> None:
        """`shared_bytes` of shared memory are asked for at each launch."""
        from cuda.bindings import driver

        self._driver = driver
        self._shared_bytes = shared_bytes
        self._module = _checked(driver.cuModuleLoadData(compiled(source, defines)))
        self._function = _checked(driver.cuModuleGetFunction(self._module, name.encode()))
        attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        _checked(driver.cuFuncSetAttribute(self._function, attribute, shared_bytes))

    def launch(self, grid: tuple[int, int], threads: int, arguments: Sequence[Argument]) -> None:
        """Send it to torch's current stream; may be captured into a graph."""
        values, types = zip(*arguments, strict=True)
        stream = torch.cuda.current_stream().cuda_stream
        _checked(
            self._driver.cuLaunchKernel(
                self._function, *grid, 1, threads, 1, 1, self._shared_bytes, stream, (values, types), 0
            )
        )


def compiled(source: bytes, defines: Mapping[str, int]) -> bytes:
    """Machine code for compute capability 9.0. Raises RuntimeError with the compiler's own words."""
    from cuda.bindings import nvrtc

    program = _checked(nvrtc.nvrtcCreateProgram(source, b"kernel.cu", 0, [], []))
    options = [b"--gpu-architecture=sm_90a", b"--std=c++17"]
    options += [f"-D{name}={value}".encode() for name, value in defines.items()]
    (failed,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    if failed:
        words = bytes(_checked(nvrtc.nvrtcGetProgramLogSize(program)))
        _checked(nvrtc.nvrtcGetProgramLog(program, words))
        raise RuntimeError(f"a CUDA source does not compile: {words.decode(errors='replace'):.500}")
    code = bytes(_checked(nvrtc.nvrtcGetCUBINSize(program)))
    _checked(nvrtc.nvrtcGetCUBIN(program, code))
    _checked(nvrtc.nvrtcDestroyProgram(program))
    return code


def rows_map(rows: torch.Tensor, *, columns: int, num_rows: int) -> Any:
    """What the copy engine knows of 16-bit `rows` (T, width): it copies `num_rows` x `columns` of 128 bytes.

    They arrive swizzled by 128 bytes; rows behind the last one arrive as zero.
    """
    from cuda.bindings import driver

    if rows.dtype == torch.bfloat16:
        kind = driver.CUtensorMapDataType.CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
    else:
        kind = driver.CUtensorMapDataType.CU_TENSOR_MAP_DATA_TYPE_FLOAT16
    long, short = driver.cuuint64_t, driver.cuuint32_t
    return _checked(
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


def _checked(answer: tuple[Any, ...]) -> Any:
    """What a call gives besides its error code."""
    failed, *rest = answer
    if failed:
        raise RuntimeError(f"CUDA's driver or compiler answers {failed!s}")
    return rest[0] if rest else None
