"""Embedmill, the producer side: enqueue texts, await vectors.

with SyncClient("redis://localhost:6379", model="all-MiniLM-L6-v2") as client:
    reply = client.embed(["a text", "another"], EmbedOptions(truncate="END"))
    reply.vectors  # float32 (2, 384)
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from producer.client import Client as Client
    from producer.contract import EmbeddingType as EmbeddingType
    from producer.contract import EmbedOptions as EmbedOptions
    from producer.contract import InputType as InputType
    from producer.contract import Reply as Reply
    from producer.contract import TextFailure as TextFailure
    from producer.contract import Truncate as Truncate
    from producer.queue.enqueue import Priority as Priority
    from producer.queue.enqueue import QueueLimits as QueueLimits
    from producer.queue.enqueue import Submission as Submission
    from producer.queue.listing import JobState as JobState
    from producer.queue.listing import QueuedJob as QueuedJob
    from producer.sync import SyncClient as SyncClient

# Imported on first use, so that code that needs only the contract does not load Redis.
_HOMES = {
    "Client": "client",
    "EmbedOptions": "contract",
    "EmbeddingType": "contract",
    "InputType": "contract",
    "JobState": "queue.listing",
    "Priority": "queue.enqueue",
    "QueueLimits": "queue.enqueue",
    "QueuedJob": "queue.listing",
    "Reply": "contract",
    "Submission": "queue.enqueue",
    "SyncClient": "sync",
    "TextFailure": "contract",
    "Truncate": "contract",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
