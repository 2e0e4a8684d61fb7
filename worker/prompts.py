"""A model's prompts by name, and which of them a request asks for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from producer.contract import EmbedOptions, InputType
from producer.errors import InvalidOption, ModelError

# The names under which sentence-transformers looks for the prompt of an input type, in its order.
_NAMES = {
    InputType.QUERY: ("query",),
    InputType.PASSAGE: ("document", "passage", "corpus"),
}
_CONVENTIONAL = frozenset(name for names in _NAMES.values() for name in names)
_MAX_LISTED = 600  # characters of names in an error


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is put before each text of a request; `name` is None if the model has no prompt for it."""

    name: str | None
    text: str


NO_PROMPT = Prompt(None, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """The prompts of a model.

    `texts` maps their names to what is put before a text, which may be nothing. `default` is the name of the
    one for requests that ask for none, `input_types` names those of an input type where the names do not
    tell; either may be absent.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    default: str | None = None
    input_types: Mapping[str, str] = field(default_factory=dict)

    def chosen(self, options: EmbedOptions) -> Prompt:
        """The prompt that a request asks for: by name, by input type, or the default.

        Raises InvalidOption, with the names there are, if the model does not have it, or has several.
        """
        if options.prompt_name is not None:
            return self._named(options.prompt_name)
        if options.input_type is None:
            return self._default()
        if options.input_type is InputType.NONE:
            return NO_PROMPT
        return self._for_input(options.input_type)

    def _named(self, name: str) -> Prompt:
        if name not in self.texts:
            alike = next((each for each in self.texts if each.lower() == name.strip().lower()), None)
            hint = f"did you mean {alike!r:.80}? " if alike is not None else ""
            raise InvalidOption(f"the model has no prompt {name!r:.80}; {hint}{self._known()}")
        return Prompt(name, self.texts[name])

    def _default(self) -> Prompt:
        if self.default is not None:
            return self._named(self.default)
        if any(self.texts.values()):  # the first words are NIM's, which clients match on
            raise InvalidOption(
                "'input_type' parameter is required for asymmetric models; set it to query, passage or none, "
                f"or set prompt_name: {self._known()}"
            )
        return NO_PROMPT

    def _for_input(self, kind: InputType) -> Prompt:
        if kind in self.input_types:
            return self._named(self.input_types[kind])
        found = [self._named(name) for name in _NAMES[kind] if name in self.texts]
        given = [prompt for prompt in found if prompt.text]
        if len({prompt.text for prompt in given}) > 1:
            raise InvalidOption(
                f"the model has several prompts for the input_type {kind}; set prompt_name instead: "
                f"{self._known()}"
            )
        if found:
            return (given or found)[0]
        # Where all names are the usual ones, the one that is missing is for texts without a prompt.
        if all(name in _CONVENTIONAL for name, text in self.texts.items() if text):
            return NO_PROMPT
        raise InvalidOption(
            f"the model names none of its prompts for the input_type {kind}; set prompt_name instead, or "
            f"input_type to none: {self._known()}"
        )

    def _known(self) -> str:
        names = ", ".join(self.texts)
        return f"its prompts are {names:.{_MAX_LISTED}}" if names else "it has none"


def read_prompts(
    of_model: Mapping[str, str],
    of_manifest: Mapping[str, str],
    *,
    default: str | None = None,
    input_types: Mapping[str, str],
) -> Prompts:
    """The prompts of a model's own files, and from its manifest what the files lack.

    Raises ModelError if the manifest maps an input type to a prompt that neither has.
    """
    texts = {name: text for name, text in of_manifest.items() if not _has_its_own(of_model, name)}
    texts |= {name: text for name, text in of_model.items() if text or name not in texts}
    for kind, name in input_types.items():
        if name not in texts:
            raise ModelError(
                f"the manifest maps the input type {kind} to the prompt {name!r:.80}, but the model's "
                f"prompts are {', '.join(texts) or 'none'}; correct input_types there"
            )
    return Prompts(texts=texts, default=default, input_types=input_types)


def stated_prompts(config: Mapping[str, Any]) -> dict[str, str]:
    """The prompts of a config_sentence_transformers.json by name. Raises ModelError."""
    prompts = config.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(
        text is None or isinstance(text, str) for text in prompts.values()
    ):
        raise ModelError("config_sentence_transformers.json has prompts that do not map names to strings")
    return {name: text or "" for name, text in prompts.items()}


def stated_default(config: Mapping[str, Any]) -> str | None:
    """The name of the default prompt in a config_sentence_transformers.json. Raises ModelError."""
    name, prompts = config.get("default_prompt_name"), stated_prompts(config)
    if name is None or (isinstance(name, str) and name in prompts):
        return name
    if name in ("query", "document"):  # sentence-transformers adds these two, empty, to every model's
        return None
    raise ModelError(
        f"config_sentence_transformers.json has the default_prompt_name {name!r:.80}, but its prompts are "
        f"{', '.join(prompts) or 'none'}"
    )


def _has_its_own(of_model: Mapping[str, str], name: str) -> bool:
    """Whether the model's files have a prompt under this name, or one for the same input type."""
    alike = next((names for names in _NAMES.values() if name in names), (name,))
    return any(of_model.get(each) for each in alike)
