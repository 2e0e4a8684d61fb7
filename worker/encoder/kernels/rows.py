"""Row-wise kernels: embedding, add and norm, activation; each can also quantise its output to fp8.

FP8 selects how: 0 not at all; 1 with a scale per row, which is written to `scale`; 2 with a static scale,
whose inverse is read from `scale`.
"""
# ruff: noqa: PLR0917
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

import triton
import triton.language as tl

from worker.models.number_formats import FP8_MAX, FP16_MAX

# Triton kernels can only read globals that are constexpr.
_FP8_MAX = tl.constexpr(FP8_MAX)
_FP16_MAX = tl.constexpr(FP16_MAX)


@triton.jit
def _normalised(
    x, valid, columns, weight, bias,
    WIDTH: tl.constexpr, EPS: tl.constexpr, RMS: tl.constexpr, HAS_BIAS: tl.constexpr,
):  # fmt: skip
    """LayerNorm or RMSNorm of fp32 rows x (R, BLOCK), zero beyond WIDTH."""
    centred = x if RMS else tl.where(valid, x - tl.sum(x, 1)[:, None] / WIDTH, 0.0)
    variance = tl.sum(centred * centred, 1) / WIDTH
    y = centred * tl.rsqrt(variance + EPS)[:, None]
    y = y * tl.load(weight + columns, mask=columns < WIDTH, other=0.0).to(tl.float32)[None, :]
    if HAS_BIAS:
        y += tl.load(bias + columns, mask=columns < WIDTH, other=0.0).to(tl.float32)[None, :]
    return y


@triton.jit
def _store_fp8(y, valid, rows, at, quantised, scale, FP8: tl.constexpr):
    """Write y as e4m3; rows are independent of each other, and values that are too large saturate."""
    if FP8 == 1:
        row_scale = tl.maximum(tl.max(tl.abs(tl.where(valid, y, 0.0)), 1), 1.0e-12) / _FP8_MAX
        tl.store(scale + rows, row_scale)
        y = y / row_scale[:, None]
    else:
        y = tl.minimum(tl.maximum(y * tl.load(scale), -_FP8_MAX), _FP8_MAX)
    tl.store(quantised + at, y.to(tl.float8e4nv), mask=valid)


@triton.jit
def embed_norm(
    ids, text_start, numbered, words, positions, weight, bias, out, quantised, scale,
    NUMBERED: tl.constexpr, NUM_POSITIONS: tl.constexpr, HAS_NORM: tl.constexpr,
    WIDTH: tl.constexpr, EPS: tl.constexpr, RMS: tl.constexpr, HAS_BIAS: tl.constexpr, FP8: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """out[t] = norm(words[ids[t]] + positions[p]): p is numbered[t] if NUMBERED, else t - text_start[t]."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, BLOCK)
    valid = (columns < WIDTH)[None, :]
    token = tl.load(ids + rows).to(tl.int64)
    x = tl.load(words + token[:, None] * WIDTH + columns[None, :], mask=valid, other=0.0).to(tl.float32)
    if NUM_POSITIONS > 0:
        if NUMBERED:
            position = tl.load(numbered + rows)
        else:
            # Positions of padding after the last text are unbounded.
            position = tl.minimum(rows - tl.load(text_start + rows), NUM_POSITIONS - 1)
        at_position = positions + position[:, None] * WIDTH + columns[None, :]
        x += tl.load(at_position, mask=valid, other=0.0).to(tl.float32)
    if HAS_NORM:
        x = _normalised(x, valid, columns, weight, bias, WIDTH, EPS, RMS, HAS_BIAS)
    at = rows[:, None].to(tl.int64) * WIDTH + columns[None, :]
    tl.store(out + at, x.to(out.dtype.element_ty), mask=valid)
    if FP8:
        _store_fp8(x, valid, rows, at, quantised, scale, FP8)


@triton.jit
def add_norm(
    x, residual, addend, branch_weight, weight, bias, out, quantised, scale,
    HAS_RESIDUAL: tl.constexpr, KEEP_SUM: tl.constexpr, HAS_ADDEND: tl.constexpr,
    HAS_BRANCH_NORM: tl.constexpr,
    WIDTH: tl.constexpr, EPS: tl.constexpr, RMS: tl.constexpr, HAS_BIAS: tl.constexpr, FP8: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """out = norm(x + residual + addend), computed in fp32; addend (WIDTH,) is the same for every row.

    HAS_BRANCH_NORM applies an RMSNorm without a bias to x first. KEEP_SUM overwrites the residual with the
    sum. Infinities from an overflowing 16-bit matmul are clamped to the largest fp16 number; otherwise
    attention could spread NaN to other texts of the batch.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, BLOCK)
    valid = (columns < WIDTH)[None, :]
    at = rows[:, None].to(tl.int64) * WIDTH + columns[None, :]
    y = tl.load(x + at, mask=valid, other=0.0).to(tl.float32)
    y = tl.minimum(tl.maximum(y, -_FP16_MAX), _FP16_MAX)
    if HAS_BRANCH_NORM:
        y = _normalised(y, valid, columns, branch_weight, branch_weight, WIDTH, EPS, True, False)
    if HAS_RESIDUAL:
        y += tl.load(residual + at, mask=valid, other=0.0).to(tl.float32)
    if HAS_ADDEND:
        y += tl.load(addend + columns, mask=columns < WIDTH, other=0.0).to(tl.float32)[None, :]
    if KEEP_SUM:
        tl.store(residual + at, y.to(residual.dtype.element_ty), mask=valid)
    y = _normalised(y, valid, columns, weight, bias, WIDTH, EPS, RMS, HAS_BIAS)
    tl.store(out + at, y.to(out.dtype.element_ty), mask=valid)
    if FP8:
        _store_fp8(y, valid, rows, at, quantised, scale, FP8)


@triton.jit
def _gelu(x, TANH: tl.constexpr):
    """x * Phi(x) as x * sigmoid(odd polynomial): the tanh form, or a fit to erf with errors up to 2.6e-5."""
    square = tl.minimum(x * x, 30.0)
    if TANH:
        exponent = x * (1.5957691216057308 + 0.07135481282553248 * square)
    else:
        exponent = x * (1.5950157218 + square * (0.0740113316 - 0.0007030396 * square))
    return x / (1.0 + tl.exp2(exponent * -1.4426950408889634))


@triton.jit
def activate(
    x, out, quantised, scale,
    ACTIVATION: tl.constexpr, GATED: tl.constexpr, FP8: tl.constexpr,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """act(x), or act(x[:, :WIDTH]) * x[:, WIDTH:] if GATED; without GATED, out may be x."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, BLOCK)
    valid = (columns < WIDTH)[None, :]
    width_in: tl.constexpr = 2 * WIDTH if GATED else WIDTH
    source = x + rows[:, None].to(tl.int64) * width_in + columns[None, :]
    y = tl.load(source, mask=valid, other=0.0).to(tl.float32)
    if ACTIVATION == "relu":
        y = tl.maximum(y, 0.0)
    elif ACTIVATION == "silu":
        y = y / (1.0 + tl.exp2(y * -1.4426950408889634))
    else:
        y = _gelu(y, ACTIVATION == "gelu_tanh")
    if GATED:
        y *= tl.load(source + WIDTH, mask=valid, other=0.0).to(tl.float32)
    at = rows[:, None].to(tl.int64) * WIDTH + columns[None, :]
    if FP8:
        _store_fp8(y, valid, rows, at, quantised, scale, FP8)
    else:
        tl.store(out + at, y.to(out.dtype.element_ty), mask=valid)
