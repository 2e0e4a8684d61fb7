"""The contract between producers and workers: messages, their encoding, Redis keys, limits, version."""

from producer.contract.codes import FAILURE_CODES, OTHER_CODE, known_code
from producer.contract.inputs import options_of, texts_of
from producer.contract.keys import (
    DEAD_KEPT_S,
    DEFAULT_PREFIX,
    FAILURE_KEPT_S,
    Keys,
    job_id,
    job_name,
    queue_name,
    run_name,
)
from producer.contract.record import WorkerRecord, worker_label
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
    decode_record,
    decode_request,
    decode_result,
    encode_failure,
    encode_record,
    encode_reply,
    encode_request,
)

__all__ = [
    "DEAD_KEPT_S",
    "DEFAULT_PREFIX",
    "FAILURE_CODES",
    "FAILURE_KEPT_S",
    "MAX_BYTES_PER_JOB",
    "MAX_BYTES_PER_TEXT",
    "MAX_TEXTS_PER_JOB",
    "OTHER_CODE",
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
    "WorkerRecord",
    "build_request",
    "decode_record",
    "decode_request",
    "decode_result",
    "encode_failure",
    "encode_record",
    "encode_reply",
    "encode_request",
    "job_id",
    "job_name",
    "known_code",
    "options_of",
    "queue_name",
    "run_name",
    "text_bytes",
    "texts_of",
    "worker_label",
]
