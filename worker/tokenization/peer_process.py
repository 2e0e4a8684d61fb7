"""Loads a model's tokenizer with the transformers library, in a separate process.

    python -m worker.tokenization.peer_process

Standard input is a request as JSON, standard output the answer. The library takes seconds to import and
hundreds of MB, which the worker is spared.
"""

import os
import sys
from pathlib import Path
from typing import Any

import msgspec

_SAMPLE = 12  # ids shown of a text that differs


class PeerRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The directory of a tokenizer, and texts to encode; with `convert` the answer has a tokenizer.json."""

    directory: str
    texts: tuple[str, ...]
    lower_case: bool = False
    convert: bool = False


class PeerAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The token ids of each text, as this version of transformers gives them, or why there are none.

    `plain_ids` are those of its class for any tokenizer.json, which leaves the file as it is; there are none
    without that file.
    """

    version: str = ""
    ids: tuple[tuple[int, ...], ...] = ()
    plain_ids: tuple[tuple[int, ...], ...] = ()
    tokenizer_json: str = ""
    failure: str = ""


def main() -> None:
    """Answer the request on standard input."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=PeerRequest)
    sys.stdout.buffer.write(msgspec.json.encode(answer_request(request)))


def answer_request(request: PeerRequest) -> PeerAnswer:
    """Load the tokenizer and encode the texts, in this process."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import transformers

    transformers.logging.set_verbosity_error()
    directory = Path(request.directory)
    try:
        found = transformers.AutoTokenizer.from_pretrained(
            directory, trust_remote_code=False, local_files_only=True
        )
        if not found.is_fast:
            return PeerAnswer(failure=f"{type(found).__name__} of transformers is not a fast tokenizer")
        if request.convert:
            _prove(directory, found, request.texts)
            return PeerAnswer(
                version=transformers.__version__, tokenizer_json=found.backend_tokenizer.to_str()
            )
        plain_ids: tuple[tuple[int, ...], ...] = ()
        if (directory / "tokenizer.json").is_file():
            plain = transformers.PreTrainedTokenizerFast.from_pretrained(directory, local_files_only=True)
            plain_ids = _ids(plain, request)
        return PeerAnswer(version=transformers.__version__, ids=_ids(found, request), plain_ids=plain_ids)
    except Exception as error:  # the library raises whatever its dependencies raise
        return PeerAnswer(failure=f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]:.300}")


def _ids(found: Any, request: PeerRequest) -> tuple[tuple[int, ...], ...]:
    if request.lower_case:
        _lower(found.backend_tokenizer)
    return tuple(tuple(found(text, truncation=False)["input_ids"]) for text in request.texts)


def _lower(library: Any) -> None:
    """As the Transformer module of sentence-transformers does for `do_lower_case`."""
    from tokenizers.normalizers import Lowercase, Sequence

    kept = [library.normalizer] if library.normalizer is not None else []
    library.normalizer = Sequence([Lowercase(), *kept])


def _prove(directory: Path, converted: Any, texts: tuple[str, ...]) -> None:
    """Raise ValueError if a converted tokenizer splits a text differently from the sentencepiece library."""
    from tokenizers.normalizers import Prepend, Replace, Sequence
    from tokenizers.pre_tokenizers import Metaspace

    models = sorted(directory.glob("*.model"))
    if not models:
        return
    library = converted.backend_tokenizer
    difference = _difference_to_original(models[0], converted, texts)
    if difference is not None and isinstance(library.pre_tokenizer, Metaspace):
        # Transformers 5 puts no space before a text that begins with one; 4 and sentencepiece do.
        library.normalizer = Sequence([Prepend("▁"), Replace(" ", "▁")])
        library.pre_tokenizer = None
        difference = _difference_to_original(models[0], converted, texts)
    if difference is not None:
        raise ValueError(difference)


def _difference_to_original(model: Path, converted: Any, texts: tuple[str, ...]) -> str | None:
    from sentencepiece import SentencePieceProcessor

    original = SentencePieceProcessor(model_file=str(model))
    for text in texts:
        pieces = original.encode(text, out_type=str)
        expected = [converted.convert_tokens_to_ids(piece) for piece in pieces]
        got = converted(text, add_special_tokens=False)["input_ids"]
        if got != expected:
            return (
                f"the converted tokenizer gives {got[:_SAMPLE]} for {ascii(text)[:60]}, sentencepiece gives "
                f"{expected[:_SAMPLE]}"
            )
    return None


if __name__ == "__main__":
    main()
