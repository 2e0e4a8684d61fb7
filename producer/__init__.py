"""Embedmill, the producer side: enqueue texts, await vectors.

with SyncClient("redis://localhost:6379", model="all-MiniLM-L6-v2") as client:
    reply = client.embed(["a text", "another"], EmbedOptions(truncate="END"))
    reply.vectors  # float32 (2, 384)
"""

from producer.client import Client
from producer.contract import EmbeddingType, EmbedOptions, InputType, Reply, TextFailure, Truncate
from producer.submission import Priority, QueueLimits, Submission
from producer.sync import SyncClient

__all__ = [
    "Client",
    "EmbedOptions",
    "EmbeddingType",
    "InputType",
    "Priority",
    "QueueLimits",
    "Reply",
    "Submission",
    "SyncClient",
    "TextFailure",
    "Truncate",
]
