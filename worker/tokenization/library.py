"""Loads a model's tokenizer into the `tokenizers` library, with all settings of its files."""

from pathlib import Path

from tokenizers import Tokenizer as Library
from tokenizers.normalizers import Lowercase, Sequence

from producer.errors import ModelError
from worker.tokenization.conversion import tokenizer_json
from worker.tokenization.rules import apply_rules
from worker.tokenization.stated import StatedTokenizer


def load_library(
    directory: Path,
    stated: StatedTokenizer,
    *,
    lower_case: bool = False,
    special_tokens: bool = True,
    cache: Path | None = None,
    major: int | None = None,
) -> Library:
    """The tokenizer of a directory, with `stated` applied as the transformers that made the files does.

    `major` asks for the rules of another version. Padding set in the file is dropped. With `lower_case` texts
    are lowercased first; without `special_tokens` none are added, and nothing but the file is read. A missing
    tokenizer.json is made from the files that there are, and kept below `cache`. Raises ModelError.
    """
    content = tokenizer_json(directory, cache=cache)
    try:
        library = Library.from_buffer(content)
    except Exception as error:  # the library raises bare Exception for all it cannot read
        raise ModelError(
            f"{directory / 'tokenizer.json'} cannot be read: {error}; install the newest `tokenizers`, or "
            "save the model again"
        ) from error
    library.no_padding()
    _refuse_dropout(library, directory)
    if special_tokens:
        _apply(library, stated, major or stated.made_with, directory)
    else:
        library.post_processor = None  # it only adds them
    if lower_case:
        kept = [library.normalizer] if library.normalizer is not None else []
        library.normalizer = Sequence([Lowercase(), *kept])
    return library


def _refuse_dropout(library: Library, directory: Path) -> None:
    """Raise ModelError if merges are left out at random, which is for training."""
    dropout = getattr(library.model, "dropout", None)
    if dropout:
        raise ModelError(
            f"{directory / 'tokenizer.json'} leaves out {dropout:.0%} of its merges at random (BPE dropout), "
            "so that each encoding of a text has other tokens; it is for training, set model.dropout to null"
        )


def _apply(library: Library, stated: StatedTokenizer, major: int, directory: Path) -> None:
    try:
        apply_rules(library, stated, major=major)
    except ModelError:
        raise
    except Exception as error:  # as above
        raise ModelError(
            f"the settings in {directory / 'tokenizer_config.json'} do not fit tokenizer.json: {error}; "
            "download the model again"
        ) from error
