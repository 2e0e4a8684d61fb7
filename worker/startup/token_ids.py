"""Verifies a tokenizer's ids before a model serves: with shipped ones, or with those of transformers."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import structlog

from producer.errors import ModelError
from selection import Manifest
from selection.manifests.manifest_file import shipped_profiles
from worker.contract import Tokens
from worker.models.model import Model
from worker.settings import Settings
from worker.storage.records import RecordOwner, read_record, write_record
from worker.tokenization.conversion import tokenizer_digest
from worker.tokenization.parity import difficult_texts, odd_texts
from worker.tokenization.peer import PeerUnusable, ask_peer, is_peer_installed
from worker.tokenization.peer_process import PeerAnswer, PeerRequest, answer_request
from worker.tokenization.stated import read_stated
from worker.tokenization.tokenizer import Tokenizer

log = structlog.stdlib.get_logger(__name__)

#: The classes of the tokenizers whose golden files have ids
_SHIPPED_CLASSES = ("BertTokenizer", "MPNetTokenizer")
_NUM_SPECIAL = 8  # special tokens to write out; some tokenizers have hundreds
_SAMPLE = 12  # ids shown of a text that differs

_Rows = Sequence[Sequence[int]]


class _GoldenIds(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a golden file about token ids; `vocabulary` is a digest of the tokenizer's tokens."""

    vocabulary: str = ""
    id_texts: tuple[str, ...] = ()
    ids: tuple[tuple[int, ...], ...] = ()


class _TokenIdsRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What transformers gave instead of the ids that were compared, or why it gave none; mostly neither."""

    transformers: str
    difference: str = ""
    failure: str = ""
    owner: RecordOwner = RecordOwner()


def ensure_token_ids(tokenizer: Tokenizer, model: Model, manifest: Manifest, settings: Settings) -> None:
    """Compare the ids of difficult texts with shipped ones, or with transformers where it is installed.

    Once for the same files, ids and versions. Where transformers 4 and 5 disagree about the files, those of
    the version that made them are served, and the log says so. Raises ModelError for any other difference.
    """
    if not tokenizer.adds_special_tokens or _is_shipped(tokenizer, model, manifest):
        return
    if not is_peer_installed():
        return
    texts = difficult_texts(tokenizer.own_special_tokens[:_NUM_SPECIAL], tokenizer.vocabulary())
    ours = _rows(tokenizer.ids(texts))
    path = settings.cache_path / "token_ids" / f"{_key(model, texts, ours)}.json"
    record = read_record(path, _TokenIdsRecord)
    if record is None:
        record = _asked(tokenizer, model, manifest, texts, ours)
        if record is None:
            return
        write_record(path, record)
    if record.failure:
        log.warning("token_ids_not_compared", reason=record.failure)
    if record.difference:
        log.warning(
            "tokenizer_versions_disagree",
            installed=record.transformers,
            served=f"transformers {tokenizer.made_with}, which made the model's files",
            difference=record.difference,
        )


def _asked(
    tokenizer: Tokenizer, model: Model, manifest: Manifest, texts: tuple[str, ...], ours: _Rows
) -> _TokenIdsRecord | None:
    request = PeerRequest(directory=str(model.transformer), texts=texts, lower_case=model.do_lower_case)
    try:
        peer = ask_peer(request)
    except PeerUnusable as reason:
        log.warning("token_ids_not_compared", reason=str(reason))
        return None
    owner = RecordOwner(model=manifest.model.name)
    if peer.failure:
        return _TokenIdsRecord(transformers=peer.version, failure=peer.failure, owner=owner)
    difference = _compare(tokenizer, texts, ours, peer)
    return _TokenIdsRecord(transformers=peer.version, difference=difference or "", owner=owner)


def golden_ids(directory: Path, tokenizer: Tokenizer, *, lower_case: bool) -> dict[str, Any]:
    """The part of a golden file about token ids, which transformers makes in this process.

    Raises ModelError if they are not ours.
    """
    texts = odd_texts(tokenizer.own_special_tokens[:_NUM_SPECIAL])
    answer = answer_request(PeerRequest(directory=str(directory), texts=texts, lower_case=lower_case))
    if answer.failure:
        raise ModelError(f"transformers cannot load the tokenizer in {directory}: {answer.failure}")
    _compare(tokenizer, texts, _rows(tokenizer.ids(texts)), answer)
    return {"vocabulary": _digest(tokenizer), "id_texts": list(texts), "ids": answer.ids}


def _is_shipped(tokenizer: Tokenizer, model: Model, manifest: Manifest) -> bool:
    """Whether shipped ids show this tokenizer to be right. Raises ModelError if the model's own differ."""
    own = manifest.model.golden
    if own is not None and (golden := _read(own)).ids:
        ours = _rows(tokenizer.ids(golden.id_texts))
        difference = _difference(golden.id_texts, ours, golden.ids)
        if difference is not None:
            raise ModelError(
                f"the tokenizer's ids are not those of {manifest.model.name}: {difference}; the files are "
                "damaged or changed, download the model again"
            )
        return True
    if read_stated(model.transformer).name.removesuffix("Fast") not in _SHIPPED_CLASSES:
        return False  # transformers may build another tokenizer of the same files
    vocabulary = _digest(tokenizer)
    return any(
        golden.vocabulary == vocabulary and _rows(tokenizer.ids(golden.id_texts)) == [*map(list, golden.ids)]
        for golden in _every_golden()
    )


def _every_golden() -> Iterator[_GoldenIds]:
    return map(_read, sorted((shipped_profiles() / "golden").glob("*.json")))


def _read(path: Path) -> _GoldenIds:
    """Raises ModelError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_GoldenIds)
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} does not hold golden vectors: {error}") from error


def _compare(tokenizer: Tokenizer, texts: Sequence[str], ours: _Rows, peer: PeerAnswer) -> str | None:
    """The first difference, if the versions of transformers explain it. Raises ModelError for any other."""
    difference = _difference(texts, ours, peer.ids)
    if difference is not None and not _explained(tokenizer, texts, peer):
        raise ModelError(
            f"transformers {peer.version} tokenizes differently: {difference}; the model's tokenizer files "
            "contradict each other, save them again with the transformers that you trust "
            "(AutoTokenizer.from_pretrained, save_pretrained)"
        )
    return difference


def _explained(tokenizer: Tokenizer, texts: Sequence[str], peer: PeerAnswer) -> bool:
    """Whether the difference is one between the version installed and the one that made the files.

    It is if we give its ids by its rules; or, where it builds the tokenizer anew from the vocabulary, if we
    give those of its class that does not. No version gives the ids of the model's own code, which is not
    run: there we must give those of the files without it.
    """
    major = int(peer.version.partition(".")[0])
    cases = [(False, peer.ids), (True, peer.plain_ids)] if major != tokenizer.made_with else []
    if tokenizer.follows_own_code:
        cases.append((True, peer.ids))
    return any(
        _difference(texts, _rows(tokenizer.ids_of(texts, major=major, plain=plain)), ids) is None
        for plain, ids in cases
        if ids
    )


def _difference(texts: Sequence[str], ours: _Rows, theirs: _Rows) -> str | None:
    for text, mine, right in zip(texts, ours, theirs, strict=True):
        if list(mine) != list(right):
            at = next((at for at, pair in enumerate(zip(mine, right, strict=False)) if pair[0] != pair[1]), 0)
            start = max(0, min(at, len(mine), len(right)) - 2)
            part = slice(start, start + _SAMPLE)
            return (
                f"{ascii(text)[:60]} has the ids {list(right)[part]} (from position {start}, "
                f"{len(right)} in all), ours are {list(mine)[part]} ({len(mine)})"
            )
    return None


def _rows(tokens: Tokens) -> list[list[int]]:
    ids, ends = tokens.ids.tolist(), tokens.offsets.tolist()
    return [ids[start:end] for start, end in pairwise(ends)]


def _digest(tokenizer: Tokenizer) -> str:
    return hashlib.sha256("\0".join(tokenizer.vocabulary()).encode()).hexdigest()[:32]


def _key(model: Model, texts: Sequence[str], ours: _Rows) -> str:
    """A digest of our ids and of all that decides what they are compared with."""
    parts = [tokenizer_digest(model.transformer), model.do_lower_case, list(texts), ours]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
