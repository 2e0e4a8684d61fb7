"""Whether a tokenizer uses token types, which backends do not receive."""

from pathlib import Path

from tokenizers import Tokenizer


def uses_token_types(directory: Path) -> bool:
    """True if a single text has token types other than 0, as with XLNet; False without a tokenizer.json."""
    path = directory / "tokenizer.json"
    return path.is_file() and any(Tokenizer.from_file(str(path)).encode("a text").type_ids)
