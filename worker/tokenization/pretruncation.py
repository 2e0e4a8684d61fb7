"""Shortens long texts before they are tokenized, where that provably changes no id."""

import json
from typing import Any

# English has four to five characters per token, so a part this long is nearly always enough.
CHARACTERS_PER_TOKEN = 16

_SPACES = " \t\n\r"
_LOCAL_NORMALIZERS = {"BertNormalizer", "Lowercase"}


def is_separable(tokenizer_json: str) -> bool:
    """Whether two texts joined by a space have the tokens of the first, then those of the second.

    True for WordPiece after BERT's normalizer and pre-tokenizer: the normalizer looks at a character and the
    marks that follow it, a space always separates words, and each word is matched by itself. Added tokens
    are searched for in the whole text, so none of them may contain a space.
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
    """The start (or end) of the text, cut at a space to `max_chars` at most; all of it if it has none."""
    if len(text) <= max_chars:
        return text
    if keep_end:
        cut = min(
            (at for space in _SPACES if (at := text.find(space, len(text) - max_chars)) >= 0), default=0
        )
        return text[cut:]
    cut = max(text.rfind(space, 0, max_chars) for space in _SPACES)
    return text[:cut] if cut > 0 else text
