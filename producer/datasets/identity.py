"""The identity of a run: what all vectors of one output must have in common."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from producer.contract import EmbedOptions, Reply
from producer.errors import FileError


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedIdentity:
    """The part of the identity that is known before the first reply: what was asked for."""

    model: str
    input_type: str | None
    prompt_name: str | None
    dimensions: int | None
    embedding_type: str

    @classmethod
    def of(cls, model: str, options: EmbedOptions) -> "AskedIdentity":
        return cls(
            model=model,
            input_type=options.input_type,
            prompt_name=options.prompt_name,
            dimensions=options.dimensions,
            embedding_type=options.embedding_type,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundIdentity:
    """The part of the identity that workers tell: model, revision, and the shape of the vectors."""

    model: str
    revision: str
    dimensions: int
    element_type: str
    scale: float | None
    prompt_name: str | None

    @classmethod
    def of(cls, reply: Reply) -> "FoundIdentity":
        return cls(
            model=reply.provenance.model,
            revision=reply.provenance.revision,
            dimensions=reply.vectors.shape[1],
            element_type=reply.vectors.dtype.name,
            scale=reply.scale,
            prompt_name=reply.prompt_name,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunIdentity:
    """What was asked for, and what answered; `found` is None until the first reply."""

    asked: AskedIdentity
    found: FoundIdentity | None = None

    def as_json(self) -> dict[str, Any]:
        """What `identity_from_json` reads."""
        return asdict(self)


def identity_from_json(fields: Mapping[str, Any]) -> RunIdentity:
    """Raises KeyError or TypeError if the fields are damaged."""
    found = fields["found"]
    return RunIdentity(
        asked=AskedIdentity(**fields["asked"]), found=None if found is None else FoundIdentity(**found)
    )


def check_asked(location: str, *, there: AskedIdentity, wanted: AskedIdentity) -> None:
    """Raises FileError, which names both, if the vectors that are there were asked for differently."""
    _check(location, there, wanted)


def check_found(location: str, *, there: FoundIdentity | None, answer: FoundIdentity) -> None:
    """Raises FileError, which names both, if workers answer with vectors of another space."""
    if there is not None:
        _check(location, there, answer)


def _check(location: str, there: AskedIdentity | FoundIdentity, other: AskedIdentity | FoundIdentity) -> None:
    if there == other:
        return
    theirs, ours = asdict(there), asdict(other)
    names = [name for name in theirs if name in ("model", "revision") or theirs[name] != ours[name]]
    raise FileError(
        f"{location} holds vectors of {_told(theirs, names)}, which those of {_told(ours, names)} cannot be "
        "compared with; choose another output, or replace everything with --overwrite"
    )


def _told(fields: Mapping[str, Any], names: list[str]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {fields[name]}" for name in names if name in fields)
