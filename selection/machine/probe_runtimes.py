"""Finds the installed inference libraries by package metadata, without importing any."""

import re
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from selection.machine.facts import Runtime

#: library -> distributions that provide it, and the file that names the CUDA version it was built for
_LIBRARIES = {
    "onnxruntime": (("onnxruntime",), ""),
    "onnxruntime-gpu": (("onnxruntime-gpu",), "onnxruntime/capi/build_and_package_info.py"),
    "torch": (("torch",), "torch/version.py"),
    "transformers": (("transformers",), ""),
    "tensorrt": (("tensorrt", "tensorrt-cu13", "tensorrt-cu12"), ""),
    "tensorrt_rtx": (("tensorrt-rtx", "tensorrt_rtx"), ""),
}
_CUDA = re.compile(r"^cuda(?:_version)?\b[^=\n]*=\s*['\"](\d+(?:\.\d+)*)", re.MULTILINE)


def installed_runtimes() -> tuple[Runtime, ...]:
    """The installed libraries, with their versions and the CUDA version each was built for."""
    return tuple(_found())


def _found() -> Iterator[Runtime]:
    for name, (distributions, cuda_file) in _LIBRARIES.items():
        package = next((each for each in map(_distribution, distributions) if each), None)
        if package is not None:
            cuda = _cuda(package, cuda_file) or _cuda_by_name(name)
            yield Runtime(name=name, version=package.version, cuda=cuda)


def _distribution(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def _cuda_by_name(library: str) -> str | None:
    """For TensorRT, the distribution that `tensorrt` depends on names it."""
    return next((major for major in ("13", "12") if _distribution(f"{library}-cu{major}")), None)


def _cuda(package: Distribution, cuda_file: str) -> str | None:
    if not cuda_file:
        return None
    path = package.locate_file(cuda_file)
    try:
        with open(str(path), encoding="utf-8") as file:
            found = _CUDA.search(file.read())
    except OSError:
        return None
    return found[1] if found else None
