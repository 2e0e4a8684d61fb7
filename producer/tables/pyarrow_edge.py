"""Imports pyarrow, an optional dependency, or says how to install it."""

from producer.errors import FileError


def import_pyarrow(path: str) -> None:
    """Import pyarrow for the file at `path`. Raises FileError naming the extra that provides it."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise FileError(
            f"{path}: this format needs pyarrow; install it with pip install 'embedmill[files]'"
        ) from error
