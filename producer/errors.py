"""Every error Embedmill raises, each with a stable code.

    EmbedmillError
    ├── RequestError          the caller's request; it fails again if sent again unchanged
    │   ├── EmptyRequest
    │   ├── RequestTooLarge
    │   ├── InvalidOption
    │   ├── JobNameTaken
    │   └── FileError         a file that cannot be read or written as asked
    ├── QueueError            Redis and the connection to it; mostly worth a retry
    │   ├── QueueUnavailable
    │   ├── QueueFull         carries `retry_after_s`
    │   ├── ResultTimeout
    │   ├── ResultNotFound
    │   ├── NoWorker
    │   └── ClientClosed
    ├── PayloadError          bytes on the queue that are foreign or of another version
    ├── JobFailed             the worker's answer to a whole job; carries the worker's code
    └── WorkerError           a worker that cannot serve
        ├── SettingsError
        ├── ModelError        missing files, wrong hash, pickle, remote code, unsupported network
        │   └── HubUnreachable      it has to be downloaded, and the hub does not answer; try again
        ├── ProfileError      carries the exit code of the process
        └── BackendError
            ├── BackendOutOfMemory  halve the batch and try again
            └── BackendDead         the device is lost; the process must end

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
    """An option with an unknown value, or one that the model does not support."""

    code = "invalid_option"


class JobNameTaken(RequestError):
    """The name given to a job is in use for a job with other texts, options or another model."""

    code = "job_name_taken"


class FileError(RequestError):
    """A file that cannot be read, written or understood as asked."""

    code = "file_error"


class QueueError(EmbedmillError):
    """Something between client and worker failed."""

    code = "queue_error"


class QueueUnavailable(QueueError):
    """Redis cannot be reached at the address given, or refuses the connection."""

    code = "queue_unavailable"


class QueueFull(QueueError):
    """The queue is at its limit of jobs or bytes; retry after `retry_after_s`."""

    code = "queue_full"

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ResultTimeout(QueueError):
    """No result within the timeout; the job keeps running, and its result can be fetched later."""

    code = "result_timeout"


class ResultNotFound(QueueError):
    """No job and no result of that id: never enqueued, expired or consumed."""

    code = "result_not_found"


class NoWorker(QueueError):
    """No worker has served the model's queue for as long as the client waits for one."""

    code = "no_worker"


class ClientClosed(QueueError):
    """The client is not open here: never entered, closed, or entered in another event loop or process."""

    code = "client_closed"


class PayloadError(EmbedmillError):
    """Bytes that are not a request, reply or record of a version we know."""

    code = "bad_payload"


class JobFailed(EmbedmillError):
    """The worker failed the whole job; `worker_code` is the code it gave."""

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


class HubUnreachable(ModelError):
    """A model that has to be downloaded while the hub does not answer; a later try may succeed."""

    code = "hub_unreachable"


class ProfileError(WorkerError):
    """No profile can serve; `exit_code` is that of the worker process (3 unknown, 4 none runnable)."""

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
