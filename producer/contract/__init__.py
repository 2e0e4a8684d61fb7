"""What crosses Redis: frozen request and reply, their bytes, key names, limits and version."""

from producer.contract.keys import DEFAULT_PREFIX, Keys, job_id, queue_name
from producer.contract.reply import Failure, Provenance, Reply
from producer.contract.request import (
    MAX_BYTES_PER_JOB,
    MAX_BYTES_PER_TEXT,
    MAX_TEXTS_PER_JOB,
    EmbeddingType,
    EmbedOptions,
    InputType,
    Request,
    TextFailure,
    Truncate,
    build_request,
    text_bytes,
)
from producer.contract.wire import (
    VERSION,
    decode_answer,
    decode_request,
    encode_failure,
    encode_reply,
    encode_request,
)

__all__ = [
    "DEFAULT_PREFIX",
    "MAX_BYTES_PER_JOB",
    "MAX_BYTES_PER_TEXT",
    "MAX_TEXTS_PER_JOB",
    "VERSION",
    "EmbedOptions",
    "EmbeddingType",
    "Failure",
    "InputType",
    "Keys",
    "Provenance",
    "Reply",
    "Request",
    "TextFailure",
    "Truncate",
    "build_request",
    "decode_answer",
    "decode_request",
    "encode_failure",
    "encode_reply",
    "encode_request",
    "job_id",
    "queue_name",
    "text_bytes",
]
