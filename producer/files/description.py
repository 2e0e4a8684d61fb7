"""The description of a file of vectors: the model, profiles and options they were computed with."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from producer.contract import EmbedOptions, Provenance, Reply
from producer.errors import WorkerError


class _Kind(NamedTuple):
    """What vectors must share to be comparable."""

    model: str
    revision: str
    width: int
    dtype: str
    scale: float | None
    prompt_name: str | None


class Description:
    """Collects what computed the vectors, and refuses vectors that cannot be compared with the others."""

    def __init__(self, options: EmbedOptions) -> None:
        self._options = options
        self._kind: _Kind | None = None
        self._sources: dict[Provenance, None] = {}

    def add(self, reply: Reply) -> None:
        """Add a reply.

        Raises WorkerError if its model, revision, scale, width, element type or prompt differs.
        """
        kind = _kind(reply)
        if self._kind is None:
            self._kind = kind
        elif kind != self._kind:
            raise WorkerError(
                f"workers answered with vectors that do not match, {tuple(self._kind)} and {tuple(kind)}; "
                "make all workers of the queue serve the same model revision and manifest, then run again"
            )
        self._sources[reply.provenance] = None

    @property
    def sources(self) -> tuple[Provenance, ...]:
        """What computed the vectors, in order of appearance; usually one."""
        return tuple(self._sources)

    @property
    def prompt_name(self) -> str | None:
        """The model's prompt that was put before the texts, None if none was."""
        return None if self._kind is None else self._kind.prompt_name

    def state(self) -> dict[str, Any]:
        """What `restore` needs, as JSON-compatible values."""
        fields = Provenance.__slots__
        sources = [{name: getattr(source, name) for name in fields} for source in self._sources]
        return {"kind": self._kind, "sources": sources}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state. Raises KeyError, TypeError or ValueError if it is damaged."""
        self._kind = _Kind(*state["kind"])
        self._sources = {Provenance(**source): None for source in state["sources"]}

    def as_json(self, *, made_from: str | None = None) -> str:
        """The description as a JSON object, complete once every reply has been added.

        `made_from` is the digest of what determines the rows.
        """
        kind = self._kind
        options = self._options
        return json.dumps(
            {
                "model": None if kind is None else kind.model,
                "revision": None if kind is None else kind.revision,
                "profiles": [
                    {"id": item.profile_id, "name": item.profile_name, "precision": item.precision}
                    for item in self._sources
                ],
                "dimensions": None if kind is None else kind.width,
                "scale": None if kind is None else kind.scale,
                "made_from": made_from,
                "prompt_name": self.prompt_name,
                "options": {
                    "input_type": options.input_type,
                    "prompt_name": options.prompt_name,
                    "truncate": options.truncate,
                    "dimensions": options.dimensions,
                    "embedding_type": options.embedding_type,
                },
            }
        )


def _kind(reply: Reply) -> _Kind:
    source = reply.provenance
    return _Kind(
        source.model,
        source.revision,
        reply.vectors.shape[1],
        reply.vectors.dtype.name,
        reply.scale,
        reply.prompt_name,
    )
