"""Embedmill's worker: chooses a profile for this machine, then serves the queue."""
