"""Asks the transformers library, where it is installed, for a tokenizer or its token ids."""

import subprocess
import sys
from importlib.util import find_spec

import msgspec

from worker.tokenization.peer_process import PeerAnswer, PeerRequest

_TIMEOUT_S = 300.0


class PeerUnusable(Exception):
    """The transformers library is not installed, or its process failed; the message says which."""


def is_peer_installed() -> bool:
    """Whether `ask_peer` can answer at all."""
    return find_spec("transformers") is not None


def ask_peer(request: PeerRequest) -> PeerAnswer:
    """What the library says, asked in a separate process. Raises PeerUnusable."""
    if not is_peer_installed():
        raise PeerUnusable("transformers is not installed")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "worker.tokenization.peer_process"],
            input=msgspec.json.encode(request),
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
        answer = msgspec.json.decode(done.stdout, type=PeerAnswer)
    except (subprocess.SubprocessError, OSError, msgspec.DecodeError) as error:
        raise PeerUnusable(f"its process failed ({type(error).__name__})") from error
    return answer
