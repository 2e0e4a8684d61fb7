"""What a look-alike is: the files of a real model as data, with small sizes, and what must come of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

#: Stands for a key that a published file does not have.
ABSENT: Any = ...

#: What is done to the files after they are written, such as pickling the weights.
Change = Callable[[Path], None]


class By(StrEnum):
    """Who computes the vectors, in the words of the table in docs/reference/models.md."""

    OWN = "own network"
    STATIC = "table of vectors"
    FALLBACK = "transformers, padded"
    GRAPH = "its ONNX graph"


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """Served with the vectors of sentence-transformers; with `convert`, after `worker convert`."""

    by: By = By.OWN
    convert: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Refused: `because` says why in the table, and `sentence` (a pattern) stands in the error."""

    because: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerFiles:
    """A tokenizer of one `kind` (see `tokenizers.KINDS`).

    `template` is what tokenizer.json puts around a text, None for nothing. `parts` replaces top-level parts
    of tokenizer.json; `settings` is tokenizer_config.json, None for no such file.
    """

    kind: str
    template: str | None
    settings: Mapping[str, Any] | None
    parts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """A module of modules.json; `tensors` are the shapes of its own weights."""

    kind: str
    config: Mapping[str, Any] | None = None
    tensors: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    package: str = "sentence_transformers.models"
    files: str = "config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The files of a model. `models` are the real ones that have them.

    `config` is config.json as published, with sizes that are small. `modules` follow the transformer; None
    stands for a directory without modules.json. `settings` is sentence_bert_config.json, `st` is
    config_sentence_transformers.json. Where sentence-transformers cannot read the published files (remote
    code, or another version's rules), `twin` has the fields of a layout with the same weights that it can.
    `gain` scales the random weights. With `table`, the weights are a table of vectors of that name. `first`
    is the first module. Before transformers `since`, or the sentence-transformers of its time, the peers read
    the files otherwise.
    """

    name: str
    models: tuple[str, ...] = ()
    family: str
    note: str = ""
    config: Mapping[str, Any]
    tokenizer: TokenizerFiles
    modules: tuple[Module, ...] | None
    settings: Mapping[str, Any] | None = None
    st: Mapping[str, Any] | None = None
    transformer: str = ""
    changes: tuple[Change, ...] = ()
    twin: Mapping[str, Any] = field(default_factory=dict)
    expected: Served | Refused = Served()
    gain: float = 1.0
    table: str | None = None
    first: Module = Module(kind="Transformer")
    since: int = 4

    @property
    def readable_since(self) -> int:
        """The major version of transformers whose vectors are the right ones."""
        both_ways = {**self.config, **self.twin.get("config", {})}.get("is_causal") is False
        return 5 if both_ways else self.since


def without(keys: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping without the keys that are ABSENT."""
    return {name: value for name, value in keys.items() if value is not ABSENT}
