"""Long texts shortened before they are tokenised, where that provably changes nothing."""

import json
from typing import Any

# English has four to five characters a token, so a part this long is nearly always enough.
CHARACTERS_A_TOKEN = 16

_SPACES = " \t\n\r"
_LOCAL_NORMALIZERS = {"BertNormalizer", "Lowercase"}


def is_separable(tokenizer_json: str) -> bool:
    """Whether the tokens of two texts with a space between are those of the one, then those of the other.

    True for WordPiece behind BERT's normaliser and pre-tokeniser: the normaliser looks at a character and
    the marks that follow it, a space parts words for good, and each word is matched by itself. Added tokens
    are searched in the whole text, so none may have a space inside.
    """
    parts: dict[str, Any] = json.loads(tokenizer_json)
    normalizer = parts.get("normalizer") or {"type": "Lowercase"}
    steps = normalizer["normalizers"] if normalizer["type"] == "Sequence" else [normalizer]
    return (
        parts["model"].get("type") == "WordPiece"
        and (parts.get("pre_tokenizer") or {}).get("type") == "BertPreTokenizer"
        and all(step["type"] in _LOCAL_NORMALIZERS for step in steps)
        and not any(space in token["content"] for token in parts["added_tokens"] for space in _SPACES)
    )


def part_of(text: str, max_chars: int, *, keep_end: bool) -> str:
    """The start (or end) of the text up to a space, at most `max_chars` long; the text if it has no such."""
    if len(text) <= max_chars:
        return text
    if keep_end:
        cut = min(
            (at for space in _SPACES if (at := text.find(space, len(text) - max_chars)) >= 0), default=0
        )
        return text[cut:]
    cut = max(text.rfind(space, 0, max_chars) for space in _SPACES)
    return text[:cut] if cut > 0 else text
