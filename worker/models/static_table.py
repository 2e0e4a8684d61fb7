"""A StaticEmbedding: a table with a row per token, and a text's vector is the mean of its tokens' rows.

Read as sentence-transformers reads it, also from the directories that model2vec writes: their `mapping`
(token to row) and `weights` (token to factor) are folded into the table. To us it is a network without layers
under mean pooling, so that every backend runs it.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from producer.errors import ModelError
from worker.models.architecture import Architecture
from worker.models.checkpoint import weight_files
from worker.models.config_file import read_object
from worker.models.safetensors_reader import SafetensorsFile

_MAX_TOKENS = 32_768  # of a text, where the tokenizer has no limit either; it bounds the memory of a batch
_SENTENCE_TRANSFORMERS, _MODEL2VEC = "embedding.weight", "embeddings"
_MAPPING, _FACTORS = "mapping", "weights"


def read_static_table(directory: Path) -> Architecture:
    """The table of a StaticEmbedding module as a network; its tensors are not read. Raises ModelError."""
    file = _open(directory)
    table = _table(file)
    shape = file.shape(table)
    if len(shape) != 2 or 0 in shape:
        raise ModelError(f"tensor {table} has shape {shape}; a row per token is expected")
    rows = shape[0]
    if _MAPPING in file.names:
        rows = _length(file, _MAPPING)
    if _FACTORS in file.names and _length(file, _FACTORS) != rows:
        raise ModelError(f"tensor {_FACTORS} has {_length(file, _FACTORS)} numbers for {rows} tokens")
    return Architecture(
        kind="static",
        vocab_size=rows,
        hidden=shape[1],
        layers=0,
        heads=0,
        kv_heads=0,
        head_dim=0,
        intermediate=0,
        activation="gelu",
        biased=(),
        norm_eps=0.0,
        embedding_norm=False,
        positions="none",
        position_offset=0,
        max_positions=_max_tokens(directory),
        token_types=0,
    )


def static_rows(directory: Path) -> npt.NDArray[np.float32]:
    """float32 (tokens, size): the row of every token. Raises ModelError."""
    file = _open(directory)
    rows = file.read(_table(file), integers=True)
    if _MAPPING in file.names:
        mapping = file.read(_MAPPING, integers=True).astype(np.int64)
        if mapping.min() < 0 or mapping.max() >= len(rows):
            raise ModelError(f"tensor {_MAPPING} names rows that the table of {len(rows)} does not have")
        rows = rows[mapping]
    if _FACTORS in file.names:
        rows = rows * file.read(_FACTORS)[:, None]
    return rows


def _open(directory: Path) -> SafetensorsFile:
    files = weight_files(directory)
    if len(files) != 1:
        raise ModelError(f"the table in {directory} is split over {len(files)} files; save it as one")
    return SafetensorsFile(files[0])


def _table(file: SafetensorsFile) -> str:
    """The name of the table's tensor. Raises ModelError if there is none, or a tensor without a meaning."""
    for table, known in (
        (_SENTENCE_TRANSFORMERS, {_SENTENCE_TRANSFORMERS}),
        (_MODEL2VEC, {_MODEL2VEC, _MAPPING, _FACTORS}),
    ):
        if table in file.names:
            for name in sorted(set(file.names) - known):
                raise ModelError(f"tensor {name} does not belong to a StaticEmbedding; it cannot be served")
            return table
    raise ModelError(
        f"a StaticEmbedding has the tensor {_SENTENCE_TRANSFORMERS} or {_MODEL2VEC}, but the file has "
        f"{', '.join(file.names)[:200] or 'none'}"
    )


def _length(file: SafetensorsFile, name: str) -> int:
    shape = file.shape(name)
    if len(shape) != 1 or shape[0] == 0:
        raise ModelError(f"tensor {name} has shape {shape}; one number per token is expected")
    return shape[0]


def _max_tokens(directory: Path) -> int:
    """The truncation that the tokenizer's file sets: sentence-transformers keeps it for this module."""
    path = directory / "tokenizer.json"
    truncation = read_object(path).get("truncation") if path.is_file() else None
    limit = truncation.get("max_length") if isinstance(truncation, dict) else None
    return limit if type(limit) is int and limit > 0 else _MAX_TOKENS
