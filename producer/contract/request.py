"""What a client asks: texts and options, checked the same way on both sides of the queue."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeGuard, TypeVar

from producer.errors import EmptyRequest, InvalidOption, RequestTooLarge

MAX_TEXTS_PER_JOB = 4096
MAX_BYTES_PER_JOB = 8 * 1024 * 1024
MAX_BYTES_PER_TEXT = 1024 * 1024
MAX_DIMENSIONS = 65536
_MAX_BYTES_A_CHARACTER = 4


class InputType(StrEnum):
    """Which of the model's prompts goes before each text."""

    QUERY = "query"
    PASSAGE = "passage"
    NONE = "none"  #: no prompt, also for a model that has some


class Truncate(StrEnum):
    """What happens to a text longer than the model takes."""

    NONE = "NONE"  #: the text fails
    START = "START"  #: its start is dropped
    END = "END"  #: its end is dropped


class EmbeddingType(StrEnum):
    """Element type of the vectors in the reply."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"
    UINT8 = "uint8"
    BINARY = "binary"  #: one sign bit a dimension, eight to an int8 (value - 128)
    UBINARY = "ubinary"  #: one sign bit a dimension, eight to a uint8


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedOptions:
    """How a job's texts are to be embedded; plain strings are accepted and checked.

    `input_type=None` means unsaid: right for models without prompts, refused for those with.
    `dimensions=None` means all of them. Raises InvalidOption naming the option and its values.
    """

    input_type: InputType | None = None
    truncate: Truncate = Truncate.NONE
    dimensions: int | None = None
    embedding_type: EmbeddingType = EmbeddingType.FLOAT32

    def __post_init__(self) -> None:
        if self.input_type is not None:
            object.__setattr__(self, "input_type", _member(InputType, "input_type", self.input_type))
        object.__setattr__(self, "truncate", _member(Truncate, "truncate", self.truncate))
        object.__setattr__(
            self, "embedding_type", _member(EmbeddingType, "embedding_type", self.embedding_type)
        )
        dims: object = self.dimensions  # from a stranger it may be anything; bool is an int
        if dims is not None and not (type(dims) is int and 0 < dims <= MAX_DIMENSIONS):
            raise InvalidOption(f"dimensions must be a whole number from 1 to {MAX_DIMENSIONS}, not {dims!r}")


_Option = TypeVar("_Option", bound=StrEnum)


def _member(kind: type[_Option], name: str, value: object) -> _Option:
    try:
        return kind(value)  # type: ignore[arg-type]
    except ValueError:
        known = ", ".join(member.value for member in kind)
        raise InvalidOption(f"{name} must be one of {known}, not {value!r:.60}") from None


@dataclass(frozen=True, slots=True)
class TextFailure:
    """Why one text has no vector: its index in the request, a stable code, a sentence."""

    index: int
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One job: a text is None where it was refused, and then stands in `refused`."""

    model: str
    texts: tuple[str | None, ...]
    options: EmbedOptions
    refused: tuple[TextFailure, ...] = ()

    @property
    def num_bytes(self) -> int:
        """UTF-8 bytes of all texts, the measure of MAX_BYTES_PER_JOB."""
        return text_bytes("".join(filter(None, self.texts)))


def build_request(model: str, texts: Sequence[object], options: EmbedOptions) -> Request:
    """Check every text and bound the whole; a bad text is refused by itself.

    Raises EmptyRequest without texts, RequestTooLarge over MAX_TEXTS_PER_JOB or MAX_BYTES_PER_JOB,
    InvalidOption if one string was given where a sequence of texts is expected.
    """
    if isinstance(texts, str | bytes):
        raise InvalidOption("texts must be a sequence of strings, not one string; wrap it in a list")
    if len(texts) == 0:
        raise EmptyRequest("the request has no texts; send at least one")
    if len(texts) > MAX_TEXTS_PER_JOB:
        raise RequestTooLarge(
            f"the job has {len(texts)} texts, the limit is {MAX_TEXTS_PER_JOB}; split it (embed_many does)"
        )
    kept, refused = _sorted_out(texts)
    request = Request(model=model, texts=kept, options=options, refused=refused)
    if (num_bytes := request.num_bytes) > MAX_BYTES_PER_JOB:
        raise RequestTooLarge(
            f"the job's texts have {num_bytes} bytes, the limit is {MAX_BYTES_PER_JOB}; split it"
        )
    return request


def _sorted_out(texts: Sequence[object]) -> tuple[tuple[str | None, ...], tuple[TextFailure, ...]]:
    """The texts with None for each that is refused, and why those are."""
    if _all_fine(texts):
        return tuple(texts), ()
    checked = [check_text(index, text) for index, text in enumerate(texts)]
    return (
        tuple(item if isinstance(item, str) else None for item in checked),
        tuple(item for item in checked if isinstance(item, TextFailure)),
    )


def _all_fine(texts: Sequence[object]) -> TypeGuard[Sequence[str]]:
    """True only if `check_text` would refuse none: told of all at once, many times faster than of each."""
    try:
        whole = "".join(texts)  # type: ignore[arg-type]  # that is what is asked
        text_bytes(whole)
    except (TypeError, UnicodeEncodeError):
        return False
    return max(map(len, texts)) * _MAX_BYTES_A_CHARACTER <= MAX_BYTES_PER_TEXT  # type: ignore[arg-type]


def check_text(index: int, text: object) -> str | TextFailure:
    """The text itself, or why it cannot be sent. Empty and blank texts are fine: they embed."""
    if not isinstance(text, str):
        return TextFailure(index, "not_a_string", f"text {index} is {type(text).__name__}, not a string")
    if not text.isascii():
        try:
            size = len(text.encode())
        except UnicodeEncodeError as error:
            return TextFailure(
                index,
                "invalid_unicode",
                f"text {index} has a lone surrogate at character {error.start}; it is no valid Unicode",
            )
    else:
        size = len(text)
    if size > MAX_BYTES_PER_TEXT:
        return TextFailure(
            index,
            "text_too_large",
            f"text {index} has {size} bytes, the limit is {MAX_BYTES_PER_TEXT}; cut it before sending",
        )
    return text


def text_bytes(text: str) -> int:
    """UTF-8 length of a text; raises UnicodeEncodeError if it has a lone surrogate."""
    return len(text) if text.isascii() else len(text.encode())
