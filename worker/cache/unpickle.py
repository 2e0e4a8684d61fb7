"""Turns one pickled checkpoint of PyTorch into safetensors, in a process of its own.

    python -m worker.cache.unpickle SOURCE TARGET

`worker convert` runs it; nothing else imports it. A pickle can run code when it is read: PyTorch's reader is
restricted to tensors (`weights_only`), and should that fail, this process has no network, no privileges to
gain, no environment of its parent's, and may write no file larger than the result. The last line on stdout is
JSON: whether the network was cut off, and an error if there was one.
"""

import ctypes
import json
import os
import resource
import sys
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000  # CLONE_NEWUSER, CLONE_NEWNET
_NO_NEW_PRIVILEGES = 38  # PR_SET_NO_NEW_PRIVS
_SPARE_BYTES = 64 << 20
_NAMES_SHOWN = 3


def cut_off_network() -> bool:
    """Move this process, still of one thread, into a network of its own; False if that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        return any(libc.unshare(flags) == 0 for flags in (_NEW_USER | _NEW_NETWORK, _NEW_NETWORK))
    except AttributeError:  # not Linux
        return False


def limit_resources(source: Path) -> None:
    """Limit the size of files that this process writes; tied tensors are written twice."""
    size = 2 * source.stat().st_size + _SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def convert_pickle(source: Path, target: Path) -> None:
    """Write the tensors of a checkpoint as safetensors. Raises ValueError if it holds anything else."""
    import torch
    from safetensors.torch import save_file

    options: dict[str, Any] = {"map_location": "cpu", "weights_only": True}
    try:
        try:
            tensors = torch.load(source, mmap=True, **options)
        except RuntimeError:  # the format before PyTorch 1.6 cannot be mapped
            tensors = torch.load(source, **options)
    except UnpicklingError as error:  # whose words advise to open it nevertheless
        raise ValueError(
            "it holds more than tensors, which may be code; do not open it elsewhere, ask its author for "
            "safetensors"
        ) from error
    if not isinstance(tensors, dict) or not tensors:
        raise ValueError("it holds no tensors by name")
    others = [name for name, each in tensors.items() if not isinstance(each, torch.Tensor)]
    if others:
        shown = ", ".join(map(str, others[:_NAMES_SHOWN]))
        raise ValueError(f"it holds more than tensors: {shown}")
    save_file(_apart(tensors), target, metadata={"format": "pt"})


def _apart(tensors: dict[str, Any]) -> dict[str, Any]:
    """The tensors, each contiguous and in memory of its own, as the format requires: tied ones are copied."""
    apart, seen = {}, set()
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        shared = place in seen or not tensor.is_contiguous()
        seen.add(place)
        apart[name] = tensor.detach().clone(memory_format=_contiguous()) if shared else tensor.detach()
    return apart


def _contiguous() -> Any:
    import torch

    return torch.contiguous_format


def main(source: Path, target: Path) -> int:
    """Convert, and say how it went."""
    outcome: dict[str, Any] = {"network_cut_off": cut_off_network()}
    limit_resources(source)
    try:
        convert_pickle(source, target)
    except ModuleNotFoundError as error:
        outcome["error"] = f"{error.name} is not installed; install embedmill[torch]"
    except Exception as error:  # whatever PyTorch's reader raises is the reason
        outcome["error"] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300]
    sys.stdout.write(f"\n{json.dumps(outcome)}\n")
    return 1 if "error" in outcome else 0


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
