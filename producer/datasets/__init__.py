"""Datasets: many parts embedded into many parts, under one identity, resumed after anything."""

from producer.datasets.dataset import Dataset, DatasetSettings, OnDuplicate, plan_dataset
from producer.datasets.lock import RunLock
from producer.datasets.run import RunResult, TextEmbedder, run_dataset
from producer.datasets.shard import Shard, parse_shard
from producer.datasets.target import Target

__all__ = [
    "Dataset",
    "DatasetSettings",
    "OnDuplicate",
    "RunLock",
    "RunResult",
    "Shard",
    "Target",
    "TextEmbedder",
    "parse_shard",
    "plan_dataset",
    "run_dataset",
]
