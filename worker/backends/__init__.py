"""Backends: a model loaded onto a device by one of several inference libraries."""

from worker.backends.options import LoadOptions
from worker.backends.registry import load_backend

__all__ = ["LoadOptions", "load_backend"]
