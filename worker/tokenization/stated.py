"""Reads what the files beside tokenizer.json state about a tokenizer, as transformers does."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tokenizers import AddedToken

from producer.errors import ModelError
from worker.models.config_file import read_object
from worker.tokenization.classes import (
    ANY_CLASS,
    CLASS_OF_MODEL,
    CLASSES,
    PYTHON_CLASSES,
    REMOTE_CLASSES,
    TokenizerClass,
)
from worker.tokenization.tokenizer_keys import check_tokenizer_keys

#: Roles of special tokens that every tokenizer may have, in the order of transformers.
TOKEN_ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedTokenizer:
    """The settings of a tokenizer's files.

    `name` is its class without the suffix `Fast`, empty if no file says; `model_type` that of config.json;
    `made_with` the major version of transformers that wrote the files. `template` has the defaults of
    add_bos_token and add_eos_token if the model's own code, which is not run, makes the template from them.
    `added` are the added tokens by id.
    """

    name: str
    model_type: str
    made_with: int
    template: tuple[bool, bool] | None
    settings: Mapping[str, Any]
    added: Mapping[int, AddedToken]

    @property
    def plain(self) -> "StatedTokenizer":
        """The same settings with a class that uses tokenizer.json as it is."""
        return replace(self, name=ANY_CLASS, template=None)

    @property
    def kind(self) -> TokenizerClass:
        """What the class does."""
        return CLASSES.get(self.name, TokenizerClass(prefix_space=False if self.name else None))

    def roles(self, major: int) -> dict[str, AddedToken]:
        """The special tokens by role, with the defaults of the class in transformers `major`."""
        by_content = {token.content: token for token in self.added.values()}
        defaults = self.kind.tokens if major == 4 else {**self.kind.tokens, **self.kind.tokens_5}
        found = {}
        for role in TOKEN_ROLES:
            value = self.settings[role] if role in self.settings else defaults.get(role)
            token = _token(value, special=True)
            if token is None:
                continue
            if role == "mask_token" and isinstance(value, str) and major in self.kind.mask_strips:
                token = AddedToken(token.content, lstrip=True, special=True)
            found[role] = by_content.get(token.content, token)
        return found

    @property
    def extra(self) -> list[AddedToken]:
        """Special tokens without one of the usual roles."""
        values: list[Any] = []
        for key in ("additional_special_tokens", "extra_special_tokens", "model_specific_special_tokens"):
            stated = self.settings.get(key) or []
            values += stated.values() if isinstance(stated, dict) else stated
        tokens = (_token(value, special=True) for value in values)
        return [token for token in tokens if token is not None]


#: For a tokenizer of which only tokenizer.json is read
NOTHING_STATED = StatedTokenizer(
    name="",
    model_type="",
    made_with=5,
    template=None,
    settings=MappingProxyType({}),
    added=MappingProxyType({}),
)


def read_stated(directory: Path) -> StatedTokenizer:
    """The settings in tokenizer_config.json, special_tokens_map.json, added_tokens.json and config.json.

    Raises ModelError for a key that may change token ids and is not read, and for a class that cannot be.
    """
    config = _object(directory / "config.json")
    settings = _object(directory / "tokenizer_config.json")
    check_tokenizer_keys(settings)
    name, template = _class(settings, config)
    added = _added(settings)
    if "added_tokens_decoder" not in settings:
        # As transformers: files of a time before it are read only then.
        settings = settings | _object(directory / "special_tokens_map.json")
        extra = settings.get("additional_special_tokens") or []
        special = {token.content for role in TOKEN_ROLES if (token := _token(settings.get(role)))}
        special |= {token.content for each in extra if (token := _token(each))}
        for content, index in _object(directory / "added_tokens.json").items():
            added[int(index)] = AddedToken(
                content, normalized=content not in special, special=content in special
            )
    return StatedTokenizer(
        name=name,
        model_type=str(config.get("model_type")),
        made_with=_made_with(settings, config),
        template=template,
        settings=settings,
        added=added,
    )


def _class(settings: Mapping[str, Any], config: Mapping[str, Any]) -> tuple[str, tuple[bool, bool] | None]:
    """The class's name, and the template's defaults if the model brings code that we know."""
    remote = settings.get("auto_map") or {}
    references = remote.get("AutoTokenizer") if isinstance(remote, dict) else remote
    for reference in references or []:
        if reference is None:
            continue
        known = REMOTE_CLASSES.get(str(reference).rpartition("--")[2])
        if known is None:
            raise ModelError(
                f"tokenizer_config.json names {reference!r:.80}, code that comes with the model, which is "
                "never run; save the tokenizer as a class of transformers, and delete auto_map"
            )
        return known
    name = settings.get("tokenizer_class") or config.get("tokenizer_class")
    name = str(name or CLASS_OF_MODEL.get(str(config.get("model_type")), "")).removesuffix("Fast")
    if name in PYTHON_CLASSES:
        raise ModelError(
            f"the tokenizer is a {name:.60}, which transformers implements in Python and no tokenizer.json "
            "can describe; it cannot be served"
        )
    return name, None


def _made_with(settings: Mapping[str, Any], config: Mapping[str, Any]) -> int:
    """The major version that wrote tokenizer_config.json, in which 5 and later note their backend."""
    if settings:
        return 5 if "backend" in settings else 4
    return 4 if str(config.get("transformers_version") or "4").startswith(("2.", "3.", "4")) else 5


def _added(settings: Mapping[str, Any]) -> dict[int, AddedToken]:
    stated = settings.get("added_tokens_decoder") or {}
    try:
        found = {int(index): _token(value) for index, value in stated.items()}
    except (AttributeError, ValueError) as error:
        raise ModelError(
            "tokenizer_config.json has an added_tokens_decoder that does not map ids to tokens; "
            "download the model again"
        ) from error
    return {index: token for index, token in found.items() if token is not None}


def _token(value: Any, *, special: bool = False) -> AddedToken | None:
    """A token as the files spell it: a string, or an object with flags. Raises ModelError."""
    match value:
        case None | "":
            return None
        case str():
            return AddedToken(value, special=special)
        case {"content": str(content)}:
            flags = {flag: bool(value[flag]) for flag in _FLAGS if flag in value}
            return AddedToken(content, **({"special": True} if special else {}) | flags)
    raise ModelError(f"tokenizer_config.json has a token {value!r:.60}; a string is expected")


def _object(path: Path) -> dict[str, Any]:
    return read_object(path) if path.is_file() else {}
