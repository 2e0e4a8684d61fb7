"""The codes of failures are a closed set: what others write is counted by one of these or as `other`."""

OTHER_CODE = "other"

#: Codes of single texts; docs/reference/errors.md explains each.
TEXT_FAILURES = (
    *("not_a_string", "invalid_unicode", "unreadable", "text_too_large", "text_too_long"),
    *("text_without_tokens", "token_without_vector", "backend_error", "out_of_memory", "not_finite"),
    *("out_of_range", "killed_worker"),
)
#: Codes of whole jobs.
JOB_FAILURES = (
    *("invalid_request", "invalid_option", "empty_request", "request_too_large", "bad_payload"),
    *("deadline_exceeded", "cancelled", "tries_exhausted", "answer_refused", "malformed_job"),
    "internal_error",
)
FAILURE_CODES = frozenset((*TEXT_FAILURES, *JOB_FAILURES))


def known_code(code: str) -> str:
    """The code if it is one of ours, else `other`: a label must not take whatever values a client sends."""
    return code if code in FAILURE_CODES else OTHER_CODE
