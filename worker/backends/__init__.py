"""The backends by name; a library is imported when its backend is loaded, not before."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from producer.errors import BackendError
from worker.contract import Backend
from worker.models.model import Model

# Whoever needs only the contract does not load selection.
if TYPE_CHECKING:
    from worker.engines.plan_file import KeptPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """How a model is to be loaded; None stands for the backend's own choice."""

    device: str
    precision: str
    max_batch_tokens: int | None
    num_threads: int | None
    keep_16bit: tuple[str, ...]
    plan: "KeptPlan | None"
    cache: Path | None


def load_backend(
    name: str,
    model: Model,
    *,
    device: str,
    precision: str,
    max_batch_tokens: int | None = None,
    num_threads: int | None = None,
    keep_16bit: tuple[str, ...] = (),
    plan: "KeptPlan | None" = None,
    cache: Path | None = None,
) -> Backend:
    """The model loaded by the backend `name` ("onnx", "torch", "transformers", "tensorrt", "fake").

    None stands for the backend's own choice. `keep_16bit` names layers that fp8 leaves bf16. `plan` is what
    TensorRT runs, and says all the rest. `cache` is a folder for what is worth knowing at the next boot.
    Raises BackendError for an unknown name, a library that is not installed (naming the extra that has it),
    and whatever the backend cannot do; ModelError if the weights do not fit the network.
    """
    if name not in _BACKENDS:
        raise BackendError(f"there is no backend {name!r:.60}; known are " + ", ".join(_BACKENDS))
    factory, extra = _BACKENDS[name]
    wish = _Wish(
        device=device,
        precision=precision,
        max_batch_tokens=max_batch_tokens,
        num_threads=num_threads,
        keep_16bit=keep_16bit,
        plan=plan,
        cache=cache,
    )
    try:
        return factory(model, wish)
    except ModuleNotFoundError as error:
        raise BackendError(
            f"the {name} backend needs {error.name}, which is not installed; install embedmill[{extra}]"
        ) from error


def _tensorrt(model: Model, wish: _Wish) -> Backend:
    from worker.backends.tensorrt_backend import load_tensorrt

    if wish.plan is None:
        raise BackendError("the tensorrt backend runs plans, and was given none; run `worker build-engines`")
    return load_tensorrt(model, wish.plan)


def _onnx(model: Model, wish: _Wish) -> Backend:
    if model.graph is not None:
        from worker.backends.onnx_custom import load_custom_onnx

        return load_custom_onnx(
            model,
            device=wish.device,
            max_batch_tokens=wish.max_batch_tokens,
            num_threads=wish.num_threads,
        )
    from worker.backends.onnx_cpu import load_onnx

    return load_onnx(
        model,
        device=wish.device,
        precision=wish.precision,
        max_batch_tokens=wish.max_batch_tokens,
        num_threads=wish.num_threads,
    )


def _torch(model: Model, wish: _Wish) -> Backend:
    from worker.backends.torch_backend import load
    from worker.models.weights import read_weights

    weights = read_weights(model.transformer, model.architecture)
    return load(
        model,
        weights,
        device=wish.device,
        precision=wish.precision,
        max_batch_tokens=wish.max_batch_tokens,
        keep_16bit=wish.keep_16bit,
        cache=wish.cache,
    )


def _transformers(model: Model, wish: _Wish) -> Backend:
    from worker.backends.transformers_backend import load_transformers

    return load_transformers(
        model, device=wish.device, precision=wish.precision, max_batch_tokens=wish.max_batch_tokens
    )


def _fake(model: Model, wish: _Wish) -> Backend:
    from worker.backends.fake import load_fake

    return load_fake(model, max_batch_tokens=wish.max_batch_tokens)


# Name -> how it is loaded, and the extra that brings its library.
_BACKENDS: dict[str, tuple[Callable[[Model, _Wish], Backend], str]] = {
    "onnx": (_onnx, "cpu"),
    "torch": (_torch, "torch"),
    "transformers": (_transformers, "transformers"),
    "tensorrt": (_tensorrt, "tensorrt"),
    "fake": (_fake, "worker"),
}
