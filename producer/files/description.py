"""What a file of vectors says about itself."""

import json

from producer.contract import EmbedOptions, Provenance, Reply
from producer.errors import WorkerError


class Description:
    """Collects what computed the vectors, and refuses to mix what cannot be compared."""

    def __init__(self, options: EmbedOptions) -> None:
        self._options = options
        self._first: Reply | None = None
        self._sources: dict[Provenance, None] = {}

    def add(self, reply: Reply) -> None:
        """Raises WorkerError if the reply's model, revision, scale, width or element type is another one."""
        if self._first is None:
            self._first = reply
        elif _comparable(reply) != _comparable(self._first):
            raise WorkerError(
                f"workers answered with different vectors, {_comparable(self._first)} and "
                f"{_comparable(reply)}; let all workers of the queue serve one model revision, then run again"
            )
        self._sources[reply.provenance] = None

    @property
    def sources(self) -> tuple[Provenance, ...]:
        """Everything that computed a part, in the order of appearance; mostly one."""
        return tuple(self._sources)

    def as_json(self) -> str:
        """The description, complete once every reply was added."""
        first = self._first
        options = self._options
        return json.dumps(
            {
                "model": None if first is None else first.provenance.model,
                "revision": None if first is None else first.provenance.revision,
                "profiles": [
                    {"id": item.profile_id, "name": item.profile_name, "precision": item.precision}
                    for item in self._sources
                ],
                "dimensions": None if first is None else first.vectors.shape[1],
                "scale": None if first is None else first.scale,
                "options": {
                    "input_type": options.input_type,
                    "truncate": options.truncate,
                    "dimensions": options.dimensions,
                    "embedding_type": options.embedding_type,
                },
            }
        )


def _comparable(reply: Reply) -> tuple[str, str, int, str, float | None]:
    source = reply.provenance
    return source.model, source.revision, reply.vectors.shape[1], reply.vectors.dtype.name, reply.scale
