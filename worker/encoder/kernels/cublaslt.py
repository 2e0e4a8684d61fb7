"""cuBLASLt through its C interface: matmuls with an algorithm chosen by the caller.

Torch does not let callers choose the algorithm, and nvmath's bindings of cuBLASLt are experimental.
https://docs.nvidia.com/cuda/cublas/#using-the-cublaslt-api
"""

import ctypes
import weakref
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Any, Literal

import torch

from worker.models.network import Linear, StaticScale, Tensor

WORKSPACE_BYTES = 32 * 2**20
MAX_ALGORITHMS = 32

#: x W', x W' + bias, tanh GELU of x W' + bias, or x W' added to the output
MatmulKind = Literal["plain", "bias", "gelu", "add"]


# Names (without their prefix) and values are those of NVIDIA's headers, unchanged since CUDA 11.


class _DataType(IntEnum):
    """cudaDataType_t"""

    R_32F = 0
    R_16F = 2
    R_16BF = 14
    R_8F_E4M3 = 28


class _ComputeType(IntEnum):
    """cublasComputeType_t"""

    COMPUTE_32F = 68


class _Operation(IntEnum):
    """cublasOperation_t"""

    T = 1


class _Epilogue(IntEnum):
    """cublasLtEpilogue_t"""

    DEFAULT = 1
    BIAS = 4
    GELU_BIAS = 36


class _Attribute(IntEnum):
    """cublasLtMatmulDescAttributes_t"""

    TRANSA = 3
    EPILOGUE = 7
    BIAS_POINTER = 8
    A_SCALE_POINTER = 17
    B_SCALE_POINTER = 18
    D_SCALE_POINTER = 20
    FAST_ACCUM = 25
    BIAS_DATA_TYPE = 26


class _Preference(IntEnum):
    """cublasLtMatmulPreferenceAttributes_t"""

    MAX_WORKSPACE_BYTES = 1


class _AlgorithmConfig(IntEnum):
    """cublasLtMatmulAlgoConfigAttributes_t"""

    CTA_SWIZZLING = 4


_FP8, _BF16 = torch.float8_e4m3fn, torch.bfloat16
_DATA_TYPES = {torch.float16: _DataType.R_16F, _BF16: _DataType.R_16BF, _FP8: _DataType.R_8F_E4M3}
_EPILOGUES = {
    "plain": _Epilogue.DEFAULT,
    "bias": _Epilogue.BIAS,
    "gelu": _Epilogue.GELU_BIAS,
    "add": _Epilogue.DEFAULT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MatmulShape:
    """A matmul of x (rows, inner) and weight (out, inner), contiguous and of the same dtype.

    The output has the same dtype, except that fp8 matmuls output bf16 unless they apply GELU.
    """

    rows: int
    out: int
    inner: int
    dtype: torch.dtype
    kind: MatmulKind

    def __str__(self) -> str:
        return f"{self.rows}x{self.inner}x{self.out} {self.dtype} {self.kind}"


class _Algorithm(ctypes.Structure):
    """cublasLtMatmulAlgo_t: opaque; can be stored and reused with the same library version."""

    _fields_ = (("data", ctypes.c_uint64 * 8),)


class _Heuristic(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t"""

    _fields_ = (
        ("algorithm", _Algorithm),
        ("workspace_bytes", ctypes.c_size_t),
        ("state", ctypes.c_int),
        ("waves", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    )


class Matmul:
    """A matmul of one shape on the current device; `workspace` is a buffer of WORKSPACE_BYTES there.

    Every method raises RuntimeError if the library returns an error.
    """

    def __init__(self, shape: MatmulShape, workspace: Tensor) -> None:
        self._library = library()
        self._workspace = workspace
        self._handle = _handle(torch.cuda.current_device())
        self._description = self._create("MatmulDesc", _ComputeType.COMPUTE_32F, _DataType.R_32F)
        self._describe(_Attribute.TRANSA, ctypes.c_int32(_Operation.T))
        self._describe(_Attribute.EPILOGUE, ctypes.c_int32(_EPILOGUES[shape.kind]))
        # The library is column-major: it computes out' = weight x', with all matrices transposed.
        self._weight = self._layout(shape.dtype, shape.inner, shape.out)
        self._x = self._layout(shape.dtype, shape.inner, shape.rows)
        wide = _BF16 if shape.dtype == _FP8 else shape.dtype
        self._out = self._layout(shape.dtype if shape.kind == "gelu" else wide, shape.out, shape.rows)
        self._addend = self._layout(wide, shape.out, shape.rows)
        if shape.dtype == _FP8:
            self._describe(_Attribute.FAST_ACCUM, ctypes.c_int8(1))
            self._describe(_Attribute.BIAS_DATA_TYPE, ctypes.c_int32(_DATA_TYPES[wide]))
        self._kind = shape.kind
        self._one = ctypes.c_float(1.0)
        self._beta = ctypes.c_float(1.0 if shape.kind == "add" else 0.0)

    def algorithms(self) -> list[bytes]:
        """The algorithms that the heuristic proposes, best first, each with every supported tile order."""
        preference = self._create("MatmulPreference")
        limit = ctypes.c_size_t(WORKSPACE_BYTES)
        attribute = _Preference.MAX_WORKSPACE_BYTES
        self._call("MatmulPreferenceSetAttribute", preference, attribute, *_sized(limit))
        found, count = (_Heuristic * MAX_ALGORITHMS)(), ctypes.c_int()
        layouts = (self._weight, self._x, self._addend, self._out)
        self._call(
            "MatmulAlgoGetHeuristic",
            self._handle,
            self._description,
            *layouts,
            preference,
            MAX_ALGORITHMS,
            found,
            ctypes.byref(count),
        )
        proposed = [each.algorithm for each in found[: count.value] if each.state == 0]
        swizzled = [bytes(_swizzled(self._library, each, order)) for each in proposed for order in range(3)]
        every = dict.fromkeys([*map(bytes, proposed), *swizzled])
        return [algorithm for algorithm in every if self.supports(algorithm)]

    def supports(self, algorithm: bytes) -> bool:
        """True if the algorithm supports this matmul on this device."""
        if len(algorithm) != ctypes.sizeof(_Algorithm):
            return False
        found = _Heuristic()
        status = self._library.cublasLtMatmulAlgoCheck(
            self._handle,
            self._description,
            self._weight,
            self._x,
            self._addend,
            self._out,
            ctypes.byref(_Algorithm.from_buffer_copy(algorithm)),
            ctypes.byref(found),
        )
        return bool(status == 0 and found.workspace_bytes <= WORKSPACE_BYTES)

    def run(
        self, algorithm: bytes, x: Tensor, linear: Linear, out: Tensor, out_scale: StaticScale | None = None
    ) -> None:
        """Compute into `out` on the current stream; an fp8 output is scaled by `out_scale`."""
        if self._kind in {"bias", "gelu"}:
            self._describe(_Attribute.BIAS_POINTER, _address(linear.bias))
        if linear.static_scale is not None:
            self._describe(_Attribute.A_SCALE_POINTER, _address(linear.scale))
            self._describe(_Attribute.B_SCALE_POINTER, _address(linear.static_scale.value))
        addend = _address(out)
        if out_scale is not None:
            self._describe(_Attribute.D_SCALE_POINTER, _address(out_scale.inverse))
            addend = ctypes.c_void_p()  # not read, and its dtype differs from the output's
        self._call(
            "Matmul",
            self._handle,
            self._description,
            ctypes.byref(self._one),
            _address(linear.weight),
            self._weight,
            _address(x),
            self._x,
            ctypes.byref(self._beta),
            addend,
            self._addend,
            _address(out),
            self._out,
            ctypes.byref(_Algorithm.from_buffer_copy(algorithm)),
            _address(self._workspace),
            ctypes.c_size_t(WORKSPACE_BYTES),
            ctypes.c_void_p(torch.cuda.current_stream().cuda_stream),
        )

    def _layout(self, dtype: torch.dtype, columns: int, rows: int) -> ctypes.c_void_p:
        sizes = ctypes.c_uint64(columns), ctypes.c_uint64(rows), ctypes.c_int64(columns)
        return self._create("MatrixLayout", _DATA_TYPES[dtype], *sizes)

    def _create(self, noun: str, *arguments: Any) -> ctypes.c_void_p:
        handle = ctypes.c_void_p()
        self._call(f"{noun}Create", ctypes.byref(handle), *arguments)
        weakref.finalize(self, getattr(self._library, f"cublasLt{noun}Destroy"), handle)
        return handle

    def _describe(self, attribute: _Attribute, value: Any) -> None:
        self._call("MatmulDescSetAttribute", self._description, attribute, *_sized(value))

    def _call(self, name: str, *arguments: Any) -> None:
        _check(name, getattr(self._library, f"cublasLt{name}")(*arguments))


@cache
def library() -> Any:
    """The library as loaded by torch. Raises OSError if there is none."""
    return ctypes.CDLL(f"libcublasLt.so.{(torch.version.cuda or '').partition('.')[0]}")


def version() -> int:
    """The library's version as one number. Raises OSError if there is no library."""
    get_version = library().cublasLtGetVersion
    get_version.restype = ctypes.c_size_t
    return int(get_version())


@cache
def _handle(_device: int) -> ctypes.c_void_p:
    handle = ctypes.c_void_p()
    _check("Create", library().cublasLtCreate(ctypes.byref(handle)))
    return handle


def _swizzled(lib: Any, algorithm: _Algorithm, order: int) -> _Algorithm:
    swizzled = _Algorithm.from_buffer_copy(algorithm)
    set_attribute = lib.cublasLtMatmulAlgoConfigSetAttribute
    set_attribute(ctypes.byref(swizzled), _AlgorithmConfig.CTA_SWIZZLING, *_sized(ctypes.c_uint32(order)))
    return swizzled


def _sized(value: Any) -> tuple[Any, ctypes.c_size_t]:
    return ctypes.byref(value), ctypes.c_size_t(ctypes.sizeof(value))


def _address(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _check(name: str, status: int) -> None:
    if status:
        raise RuntimeError(f"cublasLt{name} failed with status {status}")
