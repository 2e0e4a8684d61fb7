"""Attention over flat tiles: a program handles consecutive tokens of any texts for one head."""
# ruff: noqa: PLR0917
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

import triton
import triton.language as tl


@triton.jit
def attend(
    qkv,
    out,
    tiles,
    text_start,
    text_end,
    bias,
    MAX_DISTANCE: tl.constexpr,  # the bias table covers distances -MAX_DISTANCE to MAX_DISTANCE; 0: no bias
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    DIM: tl.constexpr,
    SCALE: tl.constexpr,
    CAUSAL: tl.constexpr,
    WINDOW: tl.constexpr,  # keys up to this many tokens away on either side; 0: unlimited
    CAP: tl.constexpr,  # a score becomes CAP * tanh(score / CAP); 0: it stays
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Write softmax(q k^T * SCALE + bias) v for one tile of at most BLOCK_M rows and one head.

    qkv is (T, (HEADS + 2 * KV_HEADS) * DIM), out is (T, HEADS * DIM); `tiles` holds each tile's first row.
    Keys run from the start of the first row's text to the end of the last row's; keys of other texts are
    masked.
    """
    head = tl.program_id(0)
    first = tl.load(tiles + tl.program_id(1))
    last = tl.load(tiles + tl.program_id(1) + 1) - 1
    if last < first:
        return
    row_width: tl.constexpr = (HEADS + 2 * KV_HEADS) * DIM
    rows = tl.minimum(first + tl.arange(0, BLOCK_M), last)  # a short tile repeats its last row
    dims = tl.arange(0, DIM)
    start = tl.load(text_start + rows)
    end = tl.load(text_end + rows)
    low = tl.load(text_start + first)
    high = tl.load(text_end + last)
    one_text = tl.load(text_start + last) == low
    if CAUSAL:
        end = tl.minimum(end, rows + 1)
        high = tl.minimum(high, last + 1)
    if WINDOW > 0:
        start = tl.maximum(start, rows - WINDOW)
        end = tl.minimum(end, rows + WINDOW + 1)
        low = tl.maximum(low, first - WINDOW)
        high = tl.minimum(high, last + 1 + WINDOW)

    q = tl.load(qkv + rows[:, None].to(tl.int64) * row_width + head * DIM + dims[None, :])
    keys = qkv + (HEADS + head // (HEADS // KV_HEADS)) * DIM
    values = keys + KV_HEADS * DIM
    top = tl.full([BLOCK_M], -1.0e30, tl.float32)  # finite, so that a fully masked block does not yield NaN
    total = tl.zeros([BLOCK_M], tl.float32)
    acc = tl.zeros([BLOCK_M, DIM], tl.float32)

    # If the tile is within a single text, only the last block needs a mask.
    unmasked_end = low
    if one_text and not CAUSAL and WINDOW == 0:
        unmasked_end = low + (high - low) // BLOCK_N * BLOCK_N
    for key in range(low, unmasked_end, BLOCK_N):
        top, total, acc = _block(
            q, keys, values, key, rows, start, end, top, total, acc, bias, head, high, False,
            row_width, DIM, MAX_DISTANCE, SCALE, CAP, PRECISION, BLOCK_N,
        )  # fmt: skip
    for key in range(unmasked_end, high, BLOCK_N):
        top, total, acc = _block(
            q, keys, values, key, rows, start, end, top, total, acc, bias, head, high, True,
            row_width, DIM, MAX_DISTANCE, SCALE, CAP, PRECISION, BLOCK_N,
        )  # fmt: skip

    result = acc * (1.0 / tl.maximum(total, 1.0e-30))[:, None]
    target = out + rows[:, None].to(tl.int64) * (HEADS * DIM) + head * DIM + dims[None, :]
    tl.store(target, result.to(out.dtype.element_ty))


@triton.jit
def _block(
    q, keys, values, key, rows, start, end, top, total, acc, bias, head, high, MASKED: tl.constexpr,
    ROW_WIDTH: tl.constexpr, DIM: tl.constexpr, MAX_DISTANCE: tl.constexpr, SCALE: tl.constexpr,
    CAP: tl.constexpr, PRECISION: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """One step of the online softmax over keys [key, key + BLOCK_N)."""
    log2e: tl.constexpr = 1.4426950408889634
    lanes = tl.arange(0, BLOCK_N)
    columns = key + lanes
    at = tl.cast(key, tl.int64) * ROW_WIDTH + (lanes[:, None] * ROW_WIDTH + tl.arange(0, DIM)[None, :])
    if MASKED:
        inside = (columns < high)[:, None]
        k = tl.load(keys + at, mask=inside, other=0.0)
        v = tl.load(values + at, mask=inside, other=0.0)
    else:
        k = tl.load(keys + at)
        v = tl.load(values + at)
    scores = tl.dot(q, tl.trans(k), input_precision=PRECISION)
    factor: tl.constexpr = log2e if MAX_DISTANCE > 0 or CAP > 0 else SCALE * log2e
    if CAP > 0:
        # tanh(x) as 1 - 2 / (exp(2 x) + 1), which is right for infinite exponentials too.
        doubled: tl.constexpr = 2.0 * log2e * SCALE / CAP
        scores = CAP - 2.0 * CAP / (tl.exp2(scores * doubled) + 1.0)
    if MAX_DISTANCE > 0:
        distance = columns[None, :] - rows[:, None]
        distance = tl.minimum(tl.maximum(distance, -MAX_DISTANCE), MAX_DISTANCE) + MAX_DISTANCE
        scores = scores * SCALE + tl.load(bias + head * (2 * MAX_DISTANCE + 1) + distance)
    if MASKED:
        # As unsigned integers, one comparison checks both ends.
        width = tl.maximum(end - start, 0).to(tl.uint32)
        own = (columns[None, :] - start[:, None]).to(tl.uint32) < width[:, None]
        scores = tl.where(own, scores, float("-inf"))
    new_top = tl.maximum(top, tl.max(scores, 1) * factor)
    p = tl.exp2(scores * factor - new_top[:, None])
    keep = tl.exp2(top - new_top)
    total = total * keep + tl.sum(p, 1)
    acc = tl.dot(p.to(v.dtype), v, acc * keep[:, None], input_precision=PRECISION)
    return new_top, total, acc


@triton.jit
def rotate(
    qkv, text_start, cosines, sines, query_norm, key_norm,
    HAS_NORM: tl.constexpr, EPS: tl.constexpr, NUM_POSITIONS: tl.constexpr,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, HALF: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Normalise and rotate ROWS rows of one query or key head in place."""
    head = tl.program_id(0)
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    pairs = tl.arange(0, HALF)
    # Positions of padding after the last text are unbounded.
    position = tl.minimum(rows - tl.load(text_start + rows), NUM_POSITIONS - 1)
    entry = position[:, None] * HALF + pairs[None, :]
    cosine, sine = tl.load(cosines + entry), tl.load(sines + entry)
    row_width: tl.constexpr = (HEADS + 2 * KV_HEADS) * 2 * HALF
    at = qkv + rows[:, None].to(tl.int64) * row_width + head * 2 * HALF + pairs[None, :]
    first, second = tl.load(at).to(tl.float32), tl.load(at + HALF).to(tl.float32)
    if HAS_NORM:
        weight = query_norm if head < HEADS else key_norm
        mean_square = (tl.sum(first * first, 1) + tl.sum(second * second, 1)) / (2 * HALF)
        scale = tl.rsqrt(mean_square + EPS)[:, None]
        first = first * scale * tl.load(weight + pairs)[None, :]
        second = second * scale * tl.load(weight + HALF + pairs)[None, :]
    tl.store(at, (first * cosine - second * sine).to(qkv.dtype.element_ty))
    tl.store(at + HALF, (second * cosine + first * sine).to(qkv.dtype.element_ty))
