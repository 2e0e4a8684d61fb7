"""The codes of failures are a closed set: what others write is counted by one of these or as `other`."""

OTHER_CODE = "other"

#: Codes of failed texts and failed jobs; docs/reference/errors.md explains each.
FAILURE_CODES = frozenset(
    {
        *("not_a_string", "invalid_unicode", "text_too_large", "text_too_long", "text_without_tokens"),
        *("token_without_vector", "backend_error", "out_of_memory", "not_finite", "out_of_range"),
        "killed_worker",
        *("invalid_request", "invalid_option", "empty_request", "request_too_large", "bad_payload"),
        *("cancelled", "tries_exhausted", "answer_refused", "malformed_job", "internal_error"),
    }
)


def known_code(code: str) -> str:
    """The code if it is one of ours, else `other`: a label must not take whatever values a client sends."""
    return code if code in FAILURE_CODES else OTHER_CODE
