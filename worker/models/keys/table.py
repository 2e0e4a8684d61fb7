"""What the keys of a model's configuration files mean, as data: a key that no table names is refused."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from producer.errors import ModelError

# What to do about a key that needs more than its name and value to be understood.
_ADVICE = {
    "quantization_config": "the weights are quantised by another library; serve the unquantised model",
    "compression_config": "the weights are quantised by another library; serve the unquantised model",
    "quantization": "the weights are quantised by another library; serve the unquantised model",
    "is_decoder": "a decoder of this family is not supported, only its encoders are",
    "truncate_dim": "vectors are returned whole; delete the key, name the size under `matryoshka` in the "
    "model's manifest, and ask for it as `dimensions`",
    "tokenizer_name_or_path": "put that tokenizer's files into the model's directory and delete the key",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTable:
    """The keys that may stand in one kind of file.

    `read` keys are read by our code; `harmless` ones change no vector. A key of `only` would change vectors,
    and may have one of these values, with which it does not, or null; of a list, each element must be one.
    """

    read: frozenset[str] = frozenset()
    harmless: frozenset[str] = frozenset()
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def __or__(self, other: "KeyTable") -> "KeyTable":
        """Both tables in one; what the second says of a key replaces what the first said."""
        named = other.read | other.harmless | other.only.keys()
        return KeyTable(
            read=(self.read - named) | other.read,
            harmless=(self.harmless - named) | other.harmless,
            only={key: values for key, values in self.only.items() if key not in named} | dict(other.only),
        )


def keys(
    read: str = "", *, harmless: str = "", only: Mapping[str, tuple[Any, ...]] | None = None
) -> KeyTable:
    """A table of keys separated by spaces."""
    return KeyTable(read=frozenset(read.split()), harmless=frozenset(harmless.split()), only=dict(only or {}))


def check_keys(config: Mapping[str, Any], table: KeyTable, *, file: str, reader: str) -> None:
    """Raise ModelError for the first key of `config` that changes vectors in a way that is not computed.

    `file` is the file's name and `reader` what of ours reads it, for the message.
    """
    for key, value in config.items():
        if key in table.read or key in table.harmless:
            continue
        if key not in table.only:
            raise ModelError(
                f"{file} has the key {key!r:.80}, which our {reader} does not know and which may change the "
                "vectors; if it changes nothing, delete it from the file"
            )
        if not _is_allowed(value, table.only[key]):
            raise ModelError(f"{file} has {key} {value!r:.60}; {_advice(key, table.only[key], reader)}")


def _is_allowed(value: Any, allowed: tuple[Any, ...]) -> bool:
    if value is None or value in allowed:
        return True
    return isinstance(value, list) and bool(allowed) and all(each in allowed for each in value)


def _advice(key: str, allowed: tuple[Any, ...], reader: str) -> str:
    if key in _ADVICE:
        return _ADVICE[key]
    if not allowed:
        return f"our {reader} does not support it"
    return f"our {reader} supports only " + " or ".join(repr(value) for value in allowed)
