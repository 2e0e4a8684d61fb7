"""Makes the tokenizer.json of a model that has only its vocabulary, with the transformers library."""

import hashlib
from importlib.metadata import version
from pathlib import Path

import structlog

from producer.atomic import replace_file
from producer.errors import ModelError
from worker.reference_texts import golden_texts
from worker.tokenization.peer import PeerUnusable, ask_peer, is_peer_installed
from worker.tokenization.peer_process import PeerAnswer, PeerRequest

log = structlog.stdlib.get_logger(__name__)

#: The files that describe a tokenizer, besides tokenizer.json
SETTINGS_FILES = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "config.json")
#: Files of which a tokenizer.json can be made; those of one group belong together
SOURCES = (
    ("vocab.txt",),
    ("vocab.json", "merges.txt"),
    ("sentencepiece.bpe.model",),
    ("tokenizer.model",),
    ("spiece.model",),
    ("spm.model",),
)
_LIBRARIES = ("transformers", "tokenizers")


def tokenizer_json(directory: Path, *, cache: Path | None) -> bytes:
    """The directory's tokenizer.json; if it has none, one made of its vocabulary and kept below `cache`.

    Nothing is written into the directory. A tokenizer made of a sentencepiece model has split known texts as
    the sentencepiece library does. Raises ModelError.
    """
    path = directory / "tokenizer.json"
    if path.is_file():
        return path.read_bytes()
    group = next((each for each in SOURCES if all((directory / name).is_file() for name in each)), None)
    if group is None:
        raise ModelError(f"{directory} has no tokenizer.json; save the model with a fast tokenizer")
    if not is_peer_installed():
        raise ModelError(
            f"{directory} has {group[0]} but no tokenizer.json, which the transformers library can make of "
            "it: pip install 'embedmill[convert]', or save the model with a fast tokenizer"
        )
    kept = None if cache is None else cache / "tokenizers" / f"{_digest(directory, group)}.json"
    if kept is not None and kept.is_file():
        return kept.read_bytes()
    made = _convert(directory, group)
    if kept is not None:
        _keep(made, kept)
    return made


def _convert(directory: Path, group: tuple[str, ...]) -> bytes:
    request = PeerRequest(directory=str(directory), texts=golden_texts(64), convert=True)
    try:
        answer = ask_peer(request)
    except PeerUnusable as error:
        answer = PeerAnswer(failure=str(error))
    if answer.failure:
        raise ModelError(
            f"{directory} has no tokenizer.json, and transformers cannot make one of {group[0]}: "
            f"{answer.failure}; pip install 'embedmill[convert]' brings all it may need, or save the model "
            "with a fast tokenizer"
        )
    log.info("tokenizer_converted", source=group[0], transformers=answer.version)
    return answer.tokenizer_json.encode()


def _keep(made: bytes, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, made)
    except OSError as error:
        log.warning("cache_not_written", path=str(path), reason=error.strerror)


def tokenizer_digest(directory: Path) -> str:
    """Of all files that transformers may read for the tokenizer, and of its version."""
    return _digest(directory, ("tokenizer.json", *(name for group in SOURCES for name in group)))


def _digest(directory: Path, group: tuple[str, ...]) -> str:
    """Of these files and the settings, and the versions of the libraries that read them."""
    digest = hashlib.sha256(" ".join(f"{name} {version(name)}" for name in _LIBRARIES).encode())
    for name in (*group, *SETTINGS_FILES):
        path = directory / name
        digest.update(f"\0{name}\0".encode())
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()[:32]
