"""Every error Embedmill raises, each with a stable code.

    EmbedmillError
    ├── RequestError          the caller's request; sending it again unchanged fails again
    │   ├── EmptyRequest
    │   ├── RequestTooLarge
    │   ├── InvalidOption
    │   └── FileError         a file that cannot be read or written as asked
    ├── QueueError            Redis and the way through it; mostly worth another try
    │   ├── QueueUnavailable
    │   ├── QueueFull         carries `retry_after_s`
    │   ├── ResultTimeout
    │   └── ResultNotFound
    ├── PayloadError          bytes on the queue that are not ours, or of another version
    ├── JobFailed             the worker's answer to a whole job; carries the worker's code
    └── WorkerError           a worker that cannot serve
        ├── SettingsError
        ├── ModelError        files missing, wrong hash, pickled, remote code, unsupported network
        ├── ProfileError      carries the process's exit code
        └── BackendError
            ├── BackendOutOfMemory  halve the batch and try again
            └── BackendDead         the device is lost; the process must go

A single text's failure is a value (`producer.contract.TextFailure`), never an exception.
"""

from typing import ClassVar


class EmbedmillError(Exception):
    """Base of all errors; `code` is stable across releases, the message is for people."""

    code: ClassVar[str] = "error"


class RequestError(EmbedmillError):
    """The request itself is wrong."""

    code = "invalid_request"


class EmptyRequest(RequestError):
    """A request without any text."""

    code = "empty_request"


class RequestTooLarge(RequestError):
    """A job over the limits on texts or bytes; split it."""

    code = "request_too_large"


class InvalidOption(RequestError):
    """An option with a value that does not exist, or that the model cannot do."""

    code = "invalid_option"


class FileError(RequestError):
    """A file that cannot be read, written or understood as asked."""

    code = "file_error"


class QueueError(EmbedmillError):
    """Something between client and worker."""

    code = "queue_error"


class QueueUnavailable(QueueError):
    """Redis cannot be reached at the address given, or refuses us."""

    code = "queue_unavailable"


class QueueFull(QueueError):
    """The queue holds as many jobs or bytes as it may; `retry_after_s` says when to come back."""

    code = "queue_full"

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ResultTimeout(QueueError):
    """No result within the time given; the job goes on and can be fetched later."""

    code = "result_timeout"


class ResultNotFound(QueueError):
    """Neither a job nor a result of that id: never enqueued, expired, or consumed."""

    code = "result_not_found"


class PayloadError(EmbedmillError):
    """Bytes that do not decode to a request or a reply of a version we know."""

    code = "bad_payload"


class JobFailed(EmbedmillError):
    """The worker's failure of a whole job; `code` is the one the worker gave."""

    code = "job_failed"

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.worker_code = code


class WorkerError(EmbedmillError):
    """A worker that cannot serve."""

    code = "worker_error"


class SettingsError(WorkerError):
    """Settings that contradict each other or cannot be read."""

    code = "bad_settings"


class ModelError(WorkerError):
    """A model that cannot be found, trusted or understood."""

    code = "bad_model"


class ProfileError(WorkerError):
    """No profile can serve; `exit_code` is the worker process's (3 unknown, 4 none runnable)."""

    code = "no_profile"

    def __init__(self, message: str, *, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class BackendError(WorkerError):
    """A backend that cannot load or compute."""

    code = "backend_error"


class BackendOutOfMemory(BackendError):
    """A batch that does not fit the device's memory; a smaller one may."""

    code = "out_of_memory"


class BackendDead(BackendError):
    """The device or its runtime is lost for this process."""

    code = "backend_dead"
