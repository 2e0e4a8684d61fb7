"""Where pyarrow, which not every producer installs, is first imported."""

from producer.errors import FileError


def import_pyarrow(path: str) -> None:
    """Import pyarrow for the file at `path`. Raises FileError naming the extra that brings it."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise FileError(f"{path}: this format needs pyarrow; pip install 'embedmill[files]'") from error
