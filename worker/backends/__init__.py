"""The backends by name; a library is imported when its backend is loaded, not before."""

from collections.abc import Callable

from producer.errors import BackendError
from worker.backends.contract import Backend
from worker.model import Model


def load_backend(
    name: str,
    model: Model,
    *,
    device: str,
    precision: str,
    max_batch_tokens: int | None = None,
    num_threads: int | None = None,
) -> Backend:
    """The model loaded by the backend `name` ("onnx", "torch", "fake"); None stands for its own choice.

    Raises BackendError for an unknown name, a library that is not installed (naming the extra that has it),
    and whatever the backend cannot do; ModelError if the weights do not fit the network.
    """
    if name not in _BACKENDS:
        raise BackendError(f"there is no backend {name!r:.60}; known are " + ", ".join(_BACKENDS))
    factory, extra = _BACKENDS[name]
    try:
        return factory(model, device, precision, max_batch_tokens, num_threads)
    except ModuleNotFoundError as error:
        raise BackendError(
            f"the {name} backend needs {error.name}, which is not installed; install embedmill[{extra}]"
        ) from error


_Factory = Callable[[Model, str, str, int | None, int | None], Backend]


def _onnx(
    model: Model, device: str, precision: str, max_batch_tokens: int | None, num_threads: int | None
) -> Backend:
    if model.graph is not None:
        from worker.backends.custom_onnx import load_custom_onnx

        return load_custom_onnx(
            model, device=device, max_batch_tokens=max_batch_tokens, num_threads=num_threads
        )
    from worker.backends.onnx_backend import load_onnx

    return load_onnx(
        model,
        device=device,
        precision=precision,
        max_batch_tokens=max_batch_tokens,
        num_threads=num_threads,
    )


def _torch(
    model: Model, device: str, precision: str, max_batch_tokens: int | None, num_threads: int | None
) -> Backend:
    from worker.backends.torch_backend import load
    from worker.weights import read_weights

    weights = read_weights(model.transformer, model.architecture)
    return load(model, weights, device=device, precision=precision, max_batch_tokens=max_batch_tokens)


def _fake(
    model: Model, device: str, precision: str, max_batch_tokens: int | None, num_threads: int | None
) -> Backend:
    from worker.backends.fake import load_fake

    return load_fake(model, max_batch_tokens=max_batch_tokens)


# Name -> how it is loaded, and the extra that brings its library.
_BACKENDS: dict[str, tuple[_Factory, str]] = {
    "onnx": (_onnx, "cpu"),
    "torch": (_torch, "torch"),
    "fake": (_fake, "worker"),
}
