"""Where inputs and outputs lie: local files, object stores, the web."""

from producer.locations.filesystem import FileSystem, Stat
from producer.locations.sources import STDIN, Source
from producer.locations.urls import open_filesystem

__all__ = ["STDIN", "FileSystem", "Source", "Stat", "open_filesystem"]
