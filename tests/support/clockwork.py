"""A fake device that takes the same time for every token."""

import time

from worker.backends.fake import FakeBackend
from worker.contract import FloatArray, Handle, Tokens


class Clockwork(FakeBackend):
    """Takes `s_per_token` for each token of a batch."""

    s_per_token = 1e-4

    def collect(self, handle: Handle) -> FloatArray:
        assert isinstance(handle, Tokens)
        time.sleep(self.s_per_token * len(handle.ids))
        return super().collect(handle)
