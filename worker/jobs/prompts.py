"""What goes before a text: the model's own prompts, else its manifest's."""

from collections.abc import Mapping
from dataclasses import dataclass

from producer.contract import InputType
from producer.errors import InvalidOption

# Names under which models keep the prompt of an input type; sentence-transformers looks for the same.
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
        """The prompt to put before each text. Unsaid is an error where it would change the vectors."""
        if kind is None and (self.query or self.passage):
            raise InvalidOption(
                "'input_type' parameter is required for asymmetric models; say query, passage or none"
            )
        return {InputType.QUERY: self.query, InputType.PASSAGE: self.passage}.get(kind or InputType.NONE, "")


def read_prompts(of_model: Mapping[str, str], of_manifest: Mapping[str, str]) -> Prompts:
    """Each prompt by the first name that has one, the model's own files before the manifest."""

    def find(kind: InputType) -> str:
        candidates = (source.get(name) for source in (of_model, of_manifest) for name in _NAMES[kind])
        return next((prompt for prompt in candidates if prompt), "")

    return Prompts(find(InputType.QUERY), find(InputType.PASSAGE))
