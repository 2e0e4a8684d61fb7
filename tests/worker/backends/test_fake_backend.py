"""The backend without a network."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from producer.errors import BackendDead, BackendError, BackendOutOfMemory
from worker.backends.fake import FakeBackend
from worker.contract import Tokens

TOKENS = Tokens(np.array([1, 2, 7, 1], np.int32), np.array([0, 1, 4], np.int32))


def test_vectors_can_be_computed_by_hand() -> None:
    """Token i adds i to element id % dim, then the length becomes 1."""
    backend = FakeBackend(dim=5)
    found = backend.collect(backend.launch(TOKENS))
    root = np.sqrt(3**2 + (1 + 2) ** 2)
    np.testing.assert_allclose(found, [[0, 1, 0, 0, 0], [0, 3 / root, 3 / root, 0, 0]], atol=1e-7)


def test_the_order_of_tokens_shows() -> None:
    """Two texts of the same tokens in another order differ."""
    backend = FakeBackend(dim=5)
    swapped = Tokens(np.array([1, 1, 2, 7], np.int32), TOKENS.offsets)
    assert not np.allclose(backend.collect(backend.launch(TOKENS)), backend.collect(backend.launch(swapped)))


@pytest.mark.parametrize("kind", [BackendError, BackendDead])
def test_a_poisonous_token_fails_its_batch_only(kind: type[BackendError]) -> None:
    """The batch with the token raises the error asked for; the others go on."""
    backend = FakeBackend(dim=5, failures={7: kind})
    handle = backend.launch(TOKENS)
    with pytest.raises(kind, match="token id 7"):
        backend.collect(handle)
    healthy = Tokens(np.array([1, 2], np.int32), np.array([0, 2], np.int32))
    assert backend.collect(backend.launch(healthy)).shape == (1, 5)


def test_memory_runs_out_above_a_size() -> None:
    """Up to memory_tokens a batch passes, above it is out of memory."""
    assert FakeBackend(dim=5, memory_tokens=4).collect(TOKENS).shape == (2, 5)
    with pytest.raises(BackendOutOfMemory, match="4 tokens exceed the memory for 3"):
        FakeBackend(dim=5, memory_tokens=3).collect(TOKENS)


def test_a_deadly_token_kills_the_process() -> None:
    """As a driver would: no exception, no status of our own; without that token nothing happens."""
    program = (
        "import numpy as np\nfrom worker.contract import Tokens\n"
        "from worker.backends.fake import FakeBackend\n"
        "for ids in ([1, 2], [1, 7]):\n"
        "    tokens = Tokens(np.array(ids, np.int32), np.array([0, 2], np.int32))\n"
        "    print(len(FakeBackend(dim=5, deadly={7}).collect(tokens)), flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "1\n")


def test_collecting_takes_the_delay() -> None:
    """A delay stands for the time that a device computes."""
    backend = FakeBackend(dim=5, delay_s=0.05)
    handle = backend.launch(TOKENS)
    started_s = time.perf_counter()
    backend.collect(handle)
    assert time.perf_counter() - started_s >= 0.05
