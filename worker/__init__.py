"""Embedmill's worker: chooses a profile for this machine, then serves the queue."""

import os
import sys

# Set before any library is imported, since they read these once. ONNX Runtime and huggingface_hub would
# report to their makers, the first with files in the home directory even where there is no network.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
if os.environ.get("EMBEDMILL_OFFLINE", "").strip().lower() in ("1", "true", "t", "yes", "y", "on"):
    # For transformers and the hub's library, which ask for newer files otherwise.
    os.environ["HF_HUB_OFFLINE"] = "1"
# The library's retries are told twice and without format; our own sentence says what comes of them.
os.environ.setdefault("HF_HUB_VERBOSITY", "error")
if sys.stderr is None or not sys.stderr.isatty():
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # in a log they are a line for each step
