"""The request of a job: texts and options, checked in the same way on both sides of the queue."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeGuard, TypeVar

from producer.errors import EmptyRequest, InvalidOption, RequestTooLarge

MAX_TEXTS_PER_JOB = 4096
MAX_BYTES_PER_JOB = 8 * 1024 * 1024
MAX_BYTES_PER_TEXT = 1024 * 1024
MAX_DIMENSIONS = 65536
MAX_PROMPT_NAME = 256  # characters
_MAX_BYTES_A_CHARACTER = 4


class InputType(StrEnum):
    """What the texts are: the model's prompt for it is put before each text."""

    QUERY = "query"
    PASSAGE = "passage"
    NONE = "none"  #: no prompt, even if the model has one


class Truncate(StrEnum):
    """What happens to a text that is too long for the model."""

    NONE = "NONE"  #: the text fails
    START = "START"  #: its start is dropped
    END = "END"  #: its end is dropped


class EmbeddingType(StrEnum):
    """The element type of the vectors."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"
    UINT8 = "uint8"
    BINARY = "binary"  #: one sign bit a dimension, packed eight to an int8 (value - 128)
    UBINARY = "ubinary"  #: one sign bit a dimension, packed eight to a uint8


@dataclass(frozen=True, slots=True, init=False)
class EmbedOptions:
    """How to embed the texts of a job; plain strings are accepted and checked.

    The prompt before each text is the model's own: by its name (`prompt_name`), or by what the texts are
    (`input_type`), but not by both. Without either it is the model's default prompt; a model that has prompts
    and no default refuses the request. `dimensions=None` means all of them. Raises InvalidOption naming the
    option and its values.
    """

    input_type: InputType | None
    prompt_name: str | None
    truncate: Truncate
    dimensions: int | None
    embedding_type: EmbeddingType

    def __init__(
        self,
        *,
        input_type: InputType | str | None = None,
        prompt_name: str | None = None,
        truncate: Truncate | str = Truncate.NONE,
        dimensions: int | None = None,
        embedding_type: EmbeddingType | str = EmbeddingType.FLOAT32,
    ) -> None:
        checked = {
            "input_type": None if input_type is None else _member(InputType, "input_type", input_type),
            "prompt_name": _prompt_name(prompt_name),
            "truncate": _member(Truncate, "truncate", truncate),
            "dimensions": _dimensions(dimensions),
            "embedding_type": _member(EmbeddingType, "embedding_type", embedding_type),
        }
        if input_type is not None and prompt_name is not None:
            raise InvalidOption("input_type and prompt_name both choose the prompt; give one of them")
        for name, value in checked.items():
            object.__setattr__(self, name, value)


def _prompt_name(given: object) -> str | None:
    """The value is untrusted; only the worker knows which names there are."""
    if given is None or (
        isinstance(given, str) and 0 < len(given) <= MAX_PROMPT_NAME and given.isprintable()
    ):
        return given
    raise InvalidOption(
        f"prompt_name must be a name of 1 to {MAX_PROMPT_NAME} printable characters, not {given!r:.60}"
    )


def _dimensions(given: object) -> int | None:
    """The value is untrusted; bool is refused, although it is an int."""
    if given is None or (type(given) is int and 0 < given <= MAX_DIMENSIONS):
        return given
    raise InvalidOption(f"dimensions must be a whole number from 1 to {MAX_DIMENSIONS}, not {given!r:.60}")


_Option = TypeVar("_Option", bound=StrEnum)


def _member(kind: type[_Option], name: str, value: object) -> _Option:
    try:
        return kind(value)  # type: ignore[arg-type]
    except ValueError:
        known = ", ".join(member.value for member in kind)
        raise InvalidOption(f"{name} must be one of {known}, not {value!r:.60}") from None


@dataclass(frozen=True, slots=True)
class UnreadableText:
    """Stands in the place of a text that could not be read, and says why; the row fails with that reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class TextFailure:
    """Why one text has no vector: its index in the request, a stable code, and a sentence."""

    index: int
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One job; a text that was refused is None, and `refused` says why."""

    model: str
    texts: tuple[str | None, ...]
    options: EmbedOptions
    refused: tuple[TextFailure, ...] = ()

    @property
    def num_bytes(self) -> int:
        """UTF-8 bytes of all texts, the measure of MAX_BYTES_PER_JOB."""
        return text_bytes("".join(filter(None, self.texts)))


def build_request(model: str, texts: Sequence[object], options: EmbedOptions) -> Request:
    """Check every text, and the limits of the job; a bad text is refused alone.

    Raises EmptyRequest without texts, RequestTooLarge over MAX_TEXTS_PER_JOB or MAX_BYTES_PER_JOB,
    InvalidOption if one string was given where a sequence of texts is expected.
    """
    if isinstance(texts, str | bytes):
        raise InvalidOption("texts must be a sequence of strings, not one string; wrap it in a list")
    if len(texts) == 0:
        raise EmptyRequest("the request has no texts; add at least one")
    if len(texts) > MAX_TEXTS_PER_JOB:
        raise RequestTooLarge(
            f"the job has {len(texts)} texts, the limit is {MAX_TEXTS_PER_JOB}; split it (embed_many does)"
        )
    kept, refused = _checked(texts)
    request = Request(model=model, texts=kept, options=options, refused=refused)
    if (num_bytes := request.num_bytes) > MAX_BYTES_PER_JOB:
        raise RequestTooLarge(
            f"the job's texts have {num_bytes} bytes, the limit is {MAX_BYTES_PER_JOB}; split it"
        )
    return request


def _checked(texts: Sequence[object]) -> tuple[tuple[str | None, ...], tuple[TextFailure, ...]]:
    """The texts, with None for each that is refused, and the reasons."""
    if _all_valid(texts):
        return tuple(texts), ()
    checked = [check_text(index, text) for index, text in enumerate(texts)]
    return (
        tuple(item if isinstance(item, str) else None for item in checked),
        tuple(item for item in checked if isinstance(item, TextFailure)),
    )


def _all_valid(texts: Sequence[object]) -> TypeGuard[Sequence[str]]:
    """True only if `check_text` would refuse none; many times faster than checking each text."""
    try:
        whole = "".join(texts)  # type: ignore[arg-type]  # fails if one is not a string
        text_bytes(whole)
    except (TypeError, UnicodeEncodeError):
        return False
    return max(map(len, texts)) * _MAX_BYTES_A_CHARACTER <= MAX_BYTES_PER_TEXT  # type: ignore[arg-type]


def check_text(index: int, text: object) -> str | TextFailure:
    """The text itself, or why it cannot be sent. Empty and blank texts are valid."""
    if isinstance(text, UnreadableText):
        return TextFailure(index, "unreadable", f"text {index} cannot be read: {text.reason}")
    if not isinstance(text, str):
        return TextFailure(index, "not_a_string", f"text {index} is {type(text).__name__}, not a string")
    if not text.isascii():
        try:
            size = len(text.encode())
        except UnicodeEncodeError as error:
            return TextFailure(
                index,
                "invalid_unicode",
                f"text {index} has a lone surrogate at character {error.start}; it is not valid Unicode",
            )
    else:
        size = len(text)
    if size > MAX_BYTES_PER_TEXT:
        return TextFailure(
            index,
            "text_too_large",
            f"text {index} has {size} bytes, the limit is {MAX_BYTES_PER_TEXT}; shorten it before sending",
        )
    return text


def text_bytes(text: str) -> int:
    """The UTF-8 length of a text in bytes. Raises UnicodeEncodeError if it has a lone surrogate."""
    return len(text) if text.isascii() else len(text.encode())
