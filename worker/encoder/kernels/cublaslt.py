"""cuBLASLt through its C interface: matrix products by an algorithm of the caller's choice.

Numbers are those of cublasLt.h, which keeps them from CUDA 11 on.
https://docs.nvidia.com/cuda/cublas/#using-the-cublaslt-api
"""

import ctypes
import weakref
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch

from worker.encoder.network import Linear, StaticScale, Tensor

WORKSPACE_BYTES = 32 * 2**20
MOST_ALGORITHMS = 32

Kind = Literal["plain", "bias", "gelu", "add"]  #: x W', + bias, tanh GELU of that, or added to what is there

_FP8, _BF16 = torch.float8_e4m3fn, torch.bfloat16
_TYPES = {torch.float16: 2, _BF16: 14, _FP8: 28}
_EPILOGUES = {"plain": 1, "bias": 4, "gelu": 36, "add": 1}
_COMPUTE_32F, _REAL_32F = 68, 0
_TRANSPOSED = 1
_DESC_TRANSA, _DESC_EPILOGUE, _DESC_BIAS_POINTER = 3, 7, 8
_DESC_WEIGHT_SCALE, _DESC_X_SCALE, _DESC_OUT_SCALE = 17, 18, 20
_DESC_FAST_SUM, _DESC_BIAS_TYPE = 25, 26
_PREFERENCE_WORKSPACE = 1
_ALGORITHM_SWIZZLE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class MatmulShape:
    """A product of (rows, inner) and (out, inner) in one type, all contiguous.

    16-bit types stay what they are; fp8 gives bf16, and fp8 again behind GELU.
    """

    rows: int
    out: int
    inner: int
    dtype: torch.dtype
    kind: Kind

    def __str__(self) -> str:
        return f"{self.rows}x{self.inner}x{self.out} {self.dtype} {self.kind}"


class _Algorithm(ctypes.Structure):
    """Opaque; may be kept, and used again with the same version of the library."""

    _fields_ = (("data", ctypes.c_uint64 * 8),)


class _Heuristic(ctypes.Structure):
    _fields_ = (
        ("algorithm", _Algorithm),
        ("workspace_bytes", ctypes.c_size_t),
        ("state", ctypes.c_int),
        ("waves", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    )


class Matmul:
    """One shape of product on the current device; `workspace` has WORKSPACE_BYTES there.

    Everything here raises RuntimeError where the library refuses.
    """

    def __init__(self, shape: MatmulShape, workspace: Tensor) -> None:
        self._library = library()
        self._workspace = workspace
        self._handle = _handle(torch.cuda.current_device())
        self._description = self._made("MatmulDesc", _COMPUTE_32F, _REAL_32F)
        self._describe(_DESC_TRANSA, ctypes.c_int32(_TRANSPOSED))
        self._describe(_DESC_EPILOGUE, ctypes.c_int32(_EPILOGUES[shape.kind]))
        # The library counts columns first: it computes out' = weight x', all of them transposed.
        self._weight = self._layout(shape.dtype, shape.inner, shape.out)
        self._x = self._layout(shape.dtype, shape.inner, shape.rows)
        wide = _BF16 if shape.dtype == _FP8 else shape.dtype
        self._out = self._layout(shape.dtype if shape.kind == "gelu" else wide, shape.out, shape.rows)
        self._addend = self._layout(wide, shape.out, shape.rows)
        if shape.dtype == _FP8:
            self._describe(_DESC_FAST_SUM, ctypes.c_int8(1))
            self._describe(_DESC_BIAS_TYPE, ctypes.c_int32(_TYPES[wide]))
        self._kind = shape.kind
        self._one = ctypes.c_float(1.0)
        self._beta = ctypes.c_float(1.0 if shape.kind == "add" else 0.0)

    def algorithms(self) -> list[bytes]:
        """What the library proposes, best guess first, each in the orders of tiles that it takes."""
        preference = self._made("MatmulPreference")
        limit = ctypes.c_size_t(WORKSPACE_BYTES)
        self._call("MatmulPreferenceSetAttribute", preference, _PREFERENCE_WORKSPACE, *_sized(limit))
        found, count = (_Heuristic * MOST_ALGORITHMS)(), ctypes.c_int()
        layouts = (self._weight, self._x, self._addend, self._out)
        self._call(
            "MatmulAlgoGetHeuristic",
            self._handle,
            self._description,
            *layouts,
            preference,
            MOST_ALGORITHMS,
            found,
            ctypes.byref(count),
        )
        proposed = [each.algorithm for each in found[: count.value] if each.state == 0]
        swizzled = [bytes(_swizzled(self._library, each, order)) for each in proposed for order in range(3)]
        every = dict.fromkeys([*map(bytes, proposed), *swizzled])
        return [algorithm for algorithm in every if self.takes(algorithm)]

    def takes(self, algorithm: bytes) -> bool:
        """True if the algorithm can compute this product here."""
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
        self, algorithm: bytes, x: Tensor, linear: Linear, out: Tensor, out_unit: StaticScale | None = None
    ) -> None:
        """Compute into `out`, on the current stream; fp8 comes out in `out_unit`."""
        if self._kind in {"bias", "gelu"}:
            self._describe(_DESC_BIAS_POINTER, _at(linear.bias))
        if linear.unit is not None:
            self._describe(_DESC_WEIGHT_SCALE, _at(linear.scale))
            self._describe(_DESC_X_SCALE, _at(linear.unit.size))
        addend = _at(out)
        if out_unit is not None:
            self._describe(_DESC_OUT_SCALE, _at(out_unit.inverse))
            addend = ctypes.c_void_p()  # of another type than the result, and not read
        self._call(
            "Matmul",
            self._handle,
            self._description,
            ctypes.byref(self._one),
            _at(linear.weight),
            self._weight,
            _at(x),
            self._x,
            ctypes.byref(self._beta),
            addend,
            self._addend,
            _at(out),
            self._out,
            ctypes.byref(_Algorithm.from_buffer_copy(algorithm)),
            _at(self._workspace),
            ctypes.c_size_t(WORKSPACE_BYTES),
            ctypes.c_void_p(torch.cuda.current_stream().cuda_stream),
        )

    def _layout(self, dtype: torch.dtype, columns: int, rows: int) -> ctypes.c_void_p:
        sizes = ctypes.c_uint64(columns), ctypes.c_uint64(rows), ctypes.c_int64(columns)
        return self._made("MatrixLayout", _TYPES[dtype], *sizes)

    def _made(self, noun: str, *arguments: Any) -> ctypes.c_void_p:
        made = ctypes.c_void_p()
        self._call(f"{noun}Create", ctypes.byref(made), *arguments)
        weakref.finalize(self, getattr(self._library, f"cublasLt{noun}Destroy"), made)
        return made

    def _describe(self, attribute: int, value: Any) -> None:
        self._call("MatmulDescSetAttribute", self._description, attribute, *_sized(value))

    def _call(self, name: str, *arguments: Any) -> None:
        _checked(name, getattr(self._library, f"cublasLt{name}")(*arguments))


@cache
def library() -> Any:
    """The library that torch has loaded. Raises OSError where there is none."""
    return ctypes.CDLL(f"libcublasLt.so.{(torch.version.cuda or '').partition('.')[0]}")


def version() -> int:
    """Major, minor and patch as one number. Raises OSError where there is no library."""
    count = library().cublasLtGetVersion
    count.restype = ctypes.c_size_t
    return int(count())


@cache
def _handle(_device: int) -> ctypes.c_void_p:
    handle = ctypes.c_void_p()
    _checked("Create", library().cublasLtCreate(ctypes.byref(handle)))
    return handle


def _swizzled(loaded: Any, algorithm: _Algorithm, order: int) -> _Algorithm:
    other = _Algorithm.from_buffer_copy(algorithm)
    set_attribute = loaded.cublasLtMatmulAlgoConfigSetAttribute
    set_attribute(ctypes.byref(other), _ALGORITHM_SWIZZLE, *_sized(ctypes.c_uint32(order)))
    return other


def _sized(value: Any) -> tuple[Any, ctypes.c_size_t]:
    return ctypes.byref(value), ctypes.c_size_t(ctypes.sizeof(value))


def _at(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _checked(name: str, status: int) -> None:
    if status:
        raise RuntimeError(f"cublasLt{name} failed with status {status}")
