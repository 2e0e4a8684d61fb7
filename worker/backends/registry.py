"""The backends by name. A backend's library is imported only when the backend is loaded."""

from collections.abc import Callable

from producer.errors import BackendError
from worker.backends.options import LoadOptions
from worker.contract import Backend
from worker.models.model import Model

Loader = Callable[[Model, LoadOptions], Backend]


def load_backend(name: str, model: Model, options: LoadOptions) -> Backend:
    """The model loaded by the backend `name` ("onnx", "torch", "transformers", "tensorrt" or "fake").

    Raises BackendError for an unknown name, for a library that is not installed (naming the extra that
    installs it), and for options that the backend does not support; ModelError if the weights do not match
    the network.
    """
    if name not in _LOADERS:
        raise BackendError(f"there is no backend {name!r:.60}; choose from " + ", ".join(_LOADERS))
    load, extra = _LOADERS[name]
    try:
        return load(model, options)
    except ModuleNotFoundError as error:
        raise BackendError(
            f"the {name} backend needs {error.name}, which is not installed; install embedmill[{extra}]"
        ) from error


def _onnx(model: Model, options: LoadOptions) -> Backend:
    if model.graph is not None:
        from worker.backends.onnx_custom import load_custom_onnx

        return load_custom_onnx(model, options)
    from worker.backends.onnx_cpu import load_onnx

    return load_onnx(model, options)


def _torch(model: Model, options: LoadOptions) -> Backend:
    from worker.backends.torch_backend import load_torch

    return load_torch(model, options)


def _transformers(model: Model, options: LoadOptions) -> Backend:
    from worker.backends.transformers_backend import load_transformers

    return load_transformers(model, options)


def _tensorrt(model: Model, options: LoadOptions) -> Backend:
    from worker.backends.tensorrt_backend import load_tensorrt

    return load_tensorrt(model, options)


def _fake(model: Model, options: LoadOptions) -> Backend:
    from worker.backends.fake import load_fake

    return load_fake(model, options)


# Name -> the loader and the extra that installs its library.
_LOADERS: dict[str, tuple[Loader, str]] = {
    "onnx": (_onnx, "cpu"),
    "torch": (_torch, "torch"),
    "transformers": (_transformers, "transformers"),
    "tensorrt": (_tensorrt, "tensorrt"),
    "fake": (_fake, "worker"),
}
