"""Encodes and decodes requests, replies and records as msgpack; vectors are raw little-endian bytes.

Nothing is executable: no pickle, no ext types, no class names. Foreign bytes raise PayloadError.
Uses msgpack, not msgspec: a plain install keeps its few small dependencies, and the bytes stay the same.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import lru_cache
from typing import Any, TypeVar

import msgpack
import numpy as np
import numpy.typing as npt

from producer.contract.bounded import Kind, read_map
from producer.contract.record import WorkerRecord
from producer.contract.reply import Failure, Provenance, Reply
from producer.contract.request import (
    MAX_BYTES_PER_JOB,
    MAX_TEXTS_PER_JOB,
    EmbedOptions,
    Request,
    TextFailure,
    build_request,
)
from producer.errors import PayloadError, RequestError

VERSION = 1
# What is larger is not decoded. Beside its texts, a request has headers, and reasons of refusals.
MAX_REQUEST_BYTES = MAX_BYTES_PER_JOB + 1024 * 1024
MAX_RESULT_BYTES = 512 * 1024 * 1024  # the largest value that Redis takes by default
MAX_RECORD_BYTES = 1024 * 1024
_DTYPES = {"float32": "<f4", "float16": "<f2", "int8": "|i1", "uint8": "|u1"}
_NAMES = {np.dtype(name): name for name in _DTYPES}  # looking a name up costs less than having it made
_PROVENANCE = ("model", "revision", "profile_id", "profile_name", "precision")
_REQUEST_KINDS = {"texts": Kind.LIST, "refused": Kind.ROWS}
_RESULT_KINDS = {"error": Kind.MAP, "shape": Kind.LIST, "failures": Kind.ROWS}
_RECORD_KINDS = {"failures": Kind.MAP, "profiles_failed": Kind.MAP}
_RECORD: dict[str, type] = {
    **dict.fromkeys(("name", "host", "device", "model", "revision"), str),
    **dict.fromkeys(("profile", "profile_id", "precision", "reason"), str),
    **dict.fromkeys(("pid", "jobs_done", "texts_done", "tokens_done"), int),
    "ready_for_s": float,
}
# While a fleet is upgraded, workers of two releases serve one queue.
_RECORD_OPTIONAL: dict[str, type] = {
    **dict.fromkeys(("batches", "batch_texts", "batch_tokens"), int),
    **dict.fromkeys(("batch_cost_tokens", "batch_budget_tokens"), int),
    "busy_s": float,
    "state": str,
}


def encode_request(request: Request) -> bytes:
    """The bytes of a request; equal requests have equal bytes."""
    options = request.options
    return _pack(
        {
            "v": VERSION,
            "model": request.model,
            "input_type": options.input_type,
            "truncate": options.truncate,
            "dimensions": options.dimensions,
            "embedding_type": options.embedding_type,
            "texts": request.texts,
            "refused": [[item.index, item.code, item.message] for item in request.refused],
            **_if_given(prompt_name=options.prompt_name),
        }
    )


def decode_request(payload: bytes) -> Request:
    """The request in `payload`, checked again because anyone may have written it.

    Raises PayloadError if the bytes are not a request; RequestError if its values are refused.
    """
    return _translate(_request_from, payload)


def encode_reply(reply: Reply) -> bytes:
    """The bytes of a reply: a map with the vectors as raw bytes, their dtype and shape."""
    vectors = reply.vectors
    source = reply.provenance
    return _pack(
        {
            "v": VERSION,
            "shape": vectors.shape,
            "dtype": _NAMES.get(vectors.dtype) or vectors.dtype.name,
            "scale": reply.scale,
            "data": _little_endian(vectors),
            "token_counts": _little_endian(reply.token_counts.astype(np.int32, copy=False)),
            "truncated": _little_endian(reply.truncated.astype(np.int32, copy=False)),
            "failures": [[item.index, item.code, item.message] for item in reply.failures],
            "model": source.model,
            "revision": source.revision,
            "profile_id": source.profile_id,
            "profile_name": source.profile_name,
            "precision": source.precision,
            **_if_given(prompt_name=reply.prompt_name),
        }
    )


def encode_failure(failure: Failure) -> bytes:
    """The bytes of the answer to a job that failed as a whole."""
    return _pack({"v": VERSION, "error": {"code": failure.code, "message": failure.message}})


def decode_result(payload: bytes) -> Reply | Failure:
    """The answer that a worker wrote under a result key. Raises PayloadError."""
    return _translate(_answer_from, payload)


def encode_record(record: WorkerRecord) -> bytes:
    """The bytes of a worker's record."""
    return _pack({"v": VERSION, **asdict(record)})


def decode_record(payload: bytes) -> WorkerRecord:
    """The record that a worker wrote. Raises PayloadError."""
    return _translate(_record_from, payload)


def _request_from(payload: bytes) -> Request:
    fields = _fields(payload, _REQUEST_KINDS, max_bytes=MAX_REQUEST_BYTES)
    refused = _failures(fields["refused"])
    texts = fields["texts"]
    if not isinstance(texts, list) or not isinstance(fields["model"], str):
        raise PayloadError("the request's texts are not a list, or its model is not a string")
    options = _options(
        fields["input_type"],
        fields.get("prompt_name"),
        fields["truncate"],
        fields["dimensions"],
        fields["embedding_type"],
    )
    request = build_request(fields["model"], texts, options)
    known = {item.index: item for item in refused}
    # A refused text travels as nil: keep the reason that the client gave.
    reasons = tuple(known.get(item.index, item) for item in request.refused)
    return Request(model=request.model, texts=request.texts, options=options, refused=reasons)


@lru_cache(maxsize=256, typed=True)
def _options(
    input_type: str | None,
    prompt_name: str | None,
    truncate: str,
    dimensions: int | None,
    embedding_type: str,
) -> EmbedOptions:
    """The options of a request, checked once for the many jobs that have the same."""
    return EmbedOptions(
        input_type=input_type,
        prompt_name=prompt_name,
        truncate=truncate,
        dimensions=dimensions,
        embedding_type=embedding_type,
    )


def _answer_from(payload: bytes) -> Reply | Failure:
    fields = _fields(payload, _RESULT_KINDS, max_bytes=MAX_RESULT_BYTES)
    if "error" in fields:
        return Failure(code=str(fields["error"]["code"]), message=str(fields["error"]["message"]))
    rows, columns = (int(size) for size in fields["shape"])
    vectors = np.frombuffer(fields["data"], dtype=_DTYPES[fields["dtype"]]).reshape(rows, columns)
    counts = np.frombuffer(fields["token_counts"], dtype="<i4")
    if len(counts) != rows:
        raise PayloadError(f"the reply has {rows} vectors and {len(counts)} token counts")
    return Reply(
        vectors=vectors,
        failures=_failures(fields["failures"]),
        token_counts=counts,
        truncated=np.frombuffer(fields["truncated"], dtype="<i4"),
        scale=None if fields["scale"] is None else float(fields["scale"]),
        provenance=Provenance(**{key: str(fields[key]) for key in _PROVENANCE}),
        prompt_name=None if fields.get("prompt_name") is None else str(fields["prompt_name"]),
    )


def _record_from(payload: bytes) -> WorkerRecord:
    fields = _fields(payload, _RECORD_KINDS, max_bytes=MAX_RECORD_BYTES)
    return WorkerRecord(
        **{key: kind(fields[key]) for key, kind in _RECORD.items()},
        **{key: kind(fields[key]) for key, kind in _RECORD_OPTIONAL.items() if key in fields},
        failures={str(code): int(count) for code, count in dict(fields["failures"]).items()},
        profiles_failed={str(name): str(why) for name, why in dict(fields["profiles_failed"]).items()},
    )


def _if_given(**fields: object) -> dict[str, object]:
    """The fields with a value: messages without one, and so the ids of jobs, stay as they always were."""
    return {name: value for name, value in fields.items() if value is not None}


def _failures(rows: Any) -> tuple[TextFailure, ...]:
    return tuple(TextFailure(int(index), str(code), str(message)) for index, code, message in rows)


def _little_endian(array: npt.NDArray[Any]) -> memoryview | bytes:
    is_swapped = array.dtype.byteorder == ">" or (sys.byteorder == "big" and array.dtype.byteorder == "=")
    ordered = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<") if is_swapped else None)
    return ordered.data.cast("B") if ordered.size else b""


def _pack(fields: dict[str, Any]) -> bytes:
    packed: bytes = msgpack.packb(fields, use_bin_type=True)
    return packed


def _fields(payload: bytes, kinds: Mapping[str, Kind], *, max_bytes: int) -> dict[str, Any]:
    fields = read_map(payload, kinds, max_bytes=max_bytes, max_items=4 * MAX_TEXTS_PER_JOB)
    version = fields.get("v")
    if version != VERSION:
        raise PayloadError(
            f"the payload has version {version!r:.40}, this side speaks {VERSION}; upgrade the older side"
        )
    return fields


_Decoded = TypeVar("_Decoded")


def _translate(decode: Callable[[bytes], _Decoded], payload: bytes) -> _Decoded:
    """Turn whatever msgpack, numpy or a missing key raises on foreign bytes into PayloadError."""
    try:
        return decode(payload)
    except (PayloadError, RequestError):
        raise
    except KeyError as error:
        raise PayloadError(f"the payload lacks the field {error.args[0]!r:.60}") from error
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise PayloadError(f"the payload is not an Embedmill message ({type(error).__name__})") from error
