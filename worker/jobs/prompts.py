"""The prompts of a model by input type: from its own files, or else from its manifest."""

from collections.abc import Mapping
from dataclasses import dataclass

from producer.contract import InputType
from producer.errors import InvalidOption

# The names under which sentence-transformers looks for the prompt of an input type.
_NAMES = {
    InputType.QUERY: ("query",),
    InputType.PASSAGE: ("passage", "document", "corpus"),
}


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompt of each input type; both empty for a symmetric model."""

    query: str = ""
    passage: str = ""

    def for_input(self, kind: InputType | None) -> str:
        """The prompt to put before each text.

        Raises InvalidOption if no input type is given and the model has prompts.
        """
        if kind is None and (self.query or self.passage):
            raise InvalidOption(
                "'input_type' parameter is required for asymmetric models; set it to query, passage or none"
            )
        return {InputType.QUERY: self.query, InputType.PASSAGE: self.passage}.get(kind or InputType.NONE, "")


def read_prompts(of_model: Mapping[str, str], of_manifest: Mapping[str, str]) -> Prompts:
    """Find the prompts: for each, the first name that has one, in the model's files before the manifest."""

    def find(kind: InputType) -> str:
        candidates = (source.get(name) for source in (of_model, of_manifest) for name in _NAMES[kind])
        return next((prompt for prompt in candidates if prompt), "")

    return Prompts(find(InputType.QUERY), find(InputType.PASSAGE))
