"""Kernels over the texts of a batch: token bounds, tiles, pooling, normalisation.

A program handles every num_programs-th text and stops at the first empty one, after which all are empty.
"""
# ruff: noqa: PLR0917
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

import triton
import triton.language as tl


@triton.jit
def segment(offsets, text_start, text_end, num_texts, num_tokens, BLOCK: tl.constexpr):
    """Write where the text of each token starts and ends; for padding after the last text, start == end."""
    text = tl.program_id(0)
    while text <= num_texts:
        low = tl.load(offsets + text)
        high = tl.load(offsets + tl.minimum(text + 1, num_texts))
        limit = high
        if low == high:
            # Of the programs that reach an empty text, the one after the last text writes the padding.
            after_text = (text == 0) | (tl.load(offsets + tl.maximum(text - 1, 0)) < low)
            limit = tl.where(after_text, num_tokens, low)
            text = num_texts
        for token in range(low, limit, BLOCK):
            tokens = token + tl.arange(0, BLOCK)
            tl.store(text_start + tokens, tl.zeros([BLOCK], tl.int32) + low, mask=tokens < limit)
            tl.store(text_end + tokens, tl.zeros([BLOCK], tl.int32) + high, mask=tokens < limit)
        text += tl.num_programs(0)


@triton.jit
def number_tokens(ids, offsets, numbered, num_texts, PADDING: tl.constexpr, BLOCK: tl.constexpr):
    """Write each token's row of the position table: PADDING for the id PADDING, which is not counted.

    The other tokens of a text count up from PADDING + 1. Padding after the last text is not written.
    """
    text = tl.program_id(0)
    low = tl.load(offsets + text)
    high = tl.load(offsets + text + 1)
    while low < high:
        row = tl.zeros([BLOCK], tl.int32) + PADDING  # of the last token before the block that was counted
        for first in range(low, high, BLOCK):
            tokens = first + tl.arange(0, BLOCK)
            counted = (tl.load(ids + tokens, mask=tokens < high, other=PADDING) != PADDING).to(tl.int32)
            rows = tl.where(counted > 0, row + tl.cumsum(counted, 0), PADDING)
            tl.store(numbered + tokens, rows, mask=tokens < high)
            row += tl.sum(counted, 0)
        text += tl.num_programs(0)
        low = tl.load(offsets + text, mask=text < num_texts, other=0)
        high = tl.load(offsets + text + 1, mask=text < num_texts, other=0)


@triton.jit
def cut_tiles(
    offsets, tiles, num_texts, num_tokens, num_tiles,
    LONG: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write where each tile of at most ROWS tokens starts, and fill the rest of `tiles` with num_tokens.

    A text of LONG tokens or more starts a tile; shorter texts and the padding continue the current tile. Runs
    as a single program, because the start of a tile depends on all preceding texts.
    """
    anchor = 0  # start of the latest long text, from which tiles are counted
    before = 0  # tiles that end before it
    texts_end = tl.load(offsets + num_texts)
    first = 0
    reached = 0
    while (first <= num_texts) & (reached < num_tokens):
        text = first + tl.arange(0, BLOCK)
        low = tl.load(offsets + tl.minimum(text, num_texts))
        high = tl.load(offsets + tl.minimum(text + 1, num_texts))
        previous = tl.load(offsets + tl.minimum(tl.maximum(text - 1, 0), num_texts))
        # The padding counts as one more short text after the last one.
        padding = (low == texts_end) & ((text == 0) | (previous < low)) & (text <= num_texts)
        long = high - low >= LONG
        begun = tl.maximum(tl.associative_scan(tl.where(long, low, 0), 0, _larger), anchor)
        begun_before = tl.where((text > first) & (low - previous >= LONG), previous, 0)
        begun_before = tl.maximum(tl.associative_scan(begun_before, 0, _larger), anchor)
        ended = tl.where(long, (low - begun_before + ROWS - 1) // ROWS, 0)
        index = before + tl.cumsum(ended, 0)
        # The tiles, counted from `begun`, that start within this text.
        skipped = (low - begun + ROWS - 1) // ROWS
        limit = tl.where(padding, num_tokens, high)
        count = (limit - begun + ROWS - 1) // ROWS - skipped
        for more in range(0, tl.max(count, 0)):
            tile = skipped + more
            tl.store(tiles + index + tile, begun + tile * ROWS, mask=more < count)
        reached = tl.max(limit, 0)
        anchor = tl.max(begun, 0)
        before += tl.sum(ended, 0)
        first += BLOCK
    total = before + (num_tokens - anchor + ROWS - 1) // ROWS
    for behind in range(total, num_tiles + 1, BLOCK):
        rest = behind + tl.arange(0, BLOCK)
        tl.store(tiles + rest, tl.zeros([BLOCK], tl.int32) + num_tokens, mask=rest <= num_tiles)


@triton.jit
def _larger(left, right):
    return tl.maximum(left, right)


@triton.jit
def write_spans(tiles, text_start, text_end, spans, num_tiles, BLOCK: tl.constexpr):
    """Write (first row, first key, end of keys, rows) of each tile; a tile without rows is unused.

    256 is added to the number of rows if all belong to one text and thus attend to the same keys.
    """
    tile = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    valid = tile < num_tiles
    first = tl.load(tiles + tile, mask=valid, other=0)
    rows = tl.load(tiles + tile + 1, mask=valid, other=0) - first
    last = first + rows - 1
    low = tl.load(text_start + first, mask=rows > 0, other=0)
    high = tl.load(text_end + last, mask=rows > 0, other=0)
    one_text = (tl.load(text_start + last, mask=rows > 0, other=0) == low) & (low < high)
    tl.store(spans + tile * 4, first, mask=valid)
    tl.store(spans + tile * 4 + 1, low, mask=valid)
    tl.store(spans + tile * 4 + 2, high, mask=valid)
    tl.store(spans + tile * 4 + 3, tl.where(one_text, rows + 256, rows), mask=valid)


@triton.jit
def pool(
    x, firsts, offsets, out, num_texts,
    MODE: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """out[text] = mean, mean_sqrt_len_tokens, weightedmean or max from row firsts[text] on, in fp32."""
    text = tl.program_id(0)
    low = tl.load(firsts + text)
    high = tl.load(offsets + text + 1)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    while low < high:
        # Chunks start at the text's first pooled row: the order of summation does not depend on its place.
        acc = tl.full([ROWS, BLOCK], float("-inf") if MODE == "max" else 0.0, tl.float32)
        if MODE == "weightedmean":
            start = tl.load(offsets + text)
        for row in range(low, high, ROWS):
            rows = row + tl.arange(0, ROWS)
            valid = (rows < high)[:, None] & (columns < WIDTH)[None, :]
            at = rows[:, None].to(tl.int64) * WIDTH + columns[None, :]
            if MODE == "max":
                acc = tl.maximum(acc, tl.load(x + at, mask=valid, other=float("-inf")).to(tl.float32))
            elif MODE == "weightedmean":
                # A row's weight is its place in the text, counted from 1.
                weight = (rows - start + 1).to(tl.float32)[:, None]
                acc += tl.load(x + at, mask=valid, other=0.0).to(tl.float32) * weight
            else:
                acc += tl.load(x + at, mask=valid, other=0.0).to(tl.float32)
        count = (high - low).to(tl.float32)
        if MODE == "max":
            pooled = tl.max(acc, 0)
        elif MODE == "mean":
            pooled = tl.sum(acc, 0) / count
        elif MODE == "weightedmean":
            mean_place = (low + high + 1 - 2 * start).to(tl.float32) * 0.5
            pooled = tl.sum(acc, 0) / (count * mean_place)
        else:
            pooled = tl.sum(acc, 0) / tl.sqrt(count)
        tl.store(out + text.to(tl.int64) * WIDTH + columns, pooled, mask=columns < WIDTH)
        text += tl.num_programs(0)
        low = tl.load(firsts + text, mask=text < num_texts, other=0)
        high = tl.load(offsets + text + 1, mask=text < num_texts, other=0)


@triton.jit
def normalise(vectors, offsets, num_texts, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """Normalise each fp32 row that belongs to a text, in place."""
    text = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    while tl.load(offsets + text, mask=text < num_texts, other=0) < tl.load(
        offsets + text + 1, mask=text < num_texts, other=0
    ):
        at = vectors + text.to(tl.int64) * WIDTH + columns
        x = tl.load(at, mask=columns < WIDTH, other=0.0)
        length = tl.sqrt(tl.sum(x * x, 0))
        tl.store(at, x / tl.maximum(length, 1.0e-12), mask=columns < WIDTH)
        text += tl.num_programs(0)
