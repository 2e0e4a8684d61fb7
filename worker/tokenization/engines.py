"""Tokenizer engines: the reference library, a fast one that must agree with it, and a fallback from it."""

from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np
import structlog

from worker.contract import Tokens

log = structlog.stdlib.get_logger(__name__)

# Texts to flat ids with special tokens, not truncated; safe to call from many threads.
Engine = Callable[[list[str]], Tokens]

# Bounds nanotoken's cache of words to about 60 MB per thread; its default is four times that.
_CACHE_ENTRIES = 1 << 18


class UnsupportedTokenizer(Exception):
    """The fast library is not installed or does not support this tokenizer; the message says which."""


def reference_engine(library: Any) -> Engine:
    """The engine of the `tokenizers` library, which uses its own threads."""

    def encode(texts: list[str]) -> Tokens:
        rows = [encoding.ids for encoding in library.encode_batch_fast(texts)]
        offsets = np.zeros(len(rows) + 1, dtype=np.int32)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        ids = np.fromiter(chain.from_iterable(rows), dtype=np.int32, count=int(offsets[-1]))
        return Tokens(ids, offsets)

    return encode


def wordpiece_engine(tokenizer_json: str) -> Engine:
    """The engine of nanotoken, on the calling thread and without a Python object per text.

    Raises UnsupportedTokenizer.
    """
    try:
        import nanotoken
    except ImportError as error:
        raise UnsupportedTokenizer("nanotoken is not installed (extra `fast`)") from error
    nanotoken.set_cache_entries(_CACHE_ENTRIES)
    try:
        fast = nanotoken.Tokenizer.from_json(tokenizer_json)
    except ValueError as error:
        raise UnsupportedTokenizer(f"nanotoken does not support it: {error}") from error

    def encode(texts: list[str]) -> Tokens:
        # On the calling thread: jobs are prepared on several, and every additional thread would need a cache.
        ragged = fast.encode_batch(texts, parallel=False)
        return Tokens(ragged.ids.view(np.int32), ragged.offsets.astype(np.int32))

    return encode


class FallbackEngine:
    """Uses the fast engine until it fails once, then the reference; the failed texts are encoded again."""

    def __init__(self, fast: Engine, reference: Engine) -> None:
        self._engine = fast
        self._reference = reference

    def __call__(self, texts: list[str]) -> Tokens:
        """See `Engine`."""
        if self._engine is not self._reference:
            try:
                return self._engine(texts)
            except (MemoryError, KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # a panic in Rust is not an Exception, and must not end the worker
                log.error("fast_tokenizer_dropped", error=type(error).__name__)
                self._engine = self._reference
        return self._reference(texts)
