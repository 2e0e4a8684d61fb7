"""The schema of our manifest files as pydantic models: the one source of what is accepted and documented.

`python -m selection.manifests.reference` generates the JSON Schema and the reference page from them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from selection.machine.facts import parse_capability
from selection.machine.skus import SKUS
from selection.manifests.manifest import BACKENDS, DEVICES, PRECISIONS


def _must(be: str) -> WrapValidator:
    """One sentence for whatever is wrong with the value; the JSON Schema stays that of the type."""

    def checked(value: object, check: ValidatorFunctionWrapHandler) -> object:
        try:
            return check(value)
        except ValidationError:
            shown = f"{value!r:.60}"
            raise PydanticCustomError(
                "must", "must be {be}, not {shown}", {"be": be, "shown": shown}
            ) from None

    return WrapValidator(checked)


@dataclass(frozen=True)
class _OneOf:
    """A text from a fixed list."""

    values: Sequence[str]

    def __get_pydantic_core_schema__(self, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.literal_schema(list(self.values))


def _in_order(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Sorted, so that the order, which means nothing, does not change the profile's id."""
    return tuple(sorted(values))


def _given_only(given: Any) -> Any:
    """Without the names that have no value, which count as left out."""
    if not isinstance(given, dict):
        return given
    return {name: text for name, text in given.items() if text is not None}


def _quoted(values: Sequence[str]) -> str:
    return ", ".join(f"`{value}`" for value in values)


_Item = TypeVar("_Item")
_Count = Annotated[int, Field(ge=1), _must("a whole number above 0")]
_Cosine = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False), _must("a number above 0 and at most 1")]
_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$"), _must("64 lower-case hex digits")]
#: Checked where it is followed; the pattern is for editors.
_Source = Annotated[str, WithJsonSchema({"type": "string", "pattern": "^(package|hf|dir):"})]
_Name = Annotated[
    str,
    Field(pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$"),
    _must("letters, digits, dots, dashes and underscores, because people type it"),
]
_Layer = Annotated[
    str, Field(pattern=r"^layers\.[0-9]+\.(qkv|up|down)$"), _must("layers.<i>.qkv, .up or .down")
]
_Capability = Annotated[
    tuple[int, int],
    BeforeValidator(parse_capability),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]+\.[0-9]+$"}),
    _must("a compute capability such as 9.0"),
]
_PciId = Annotated[str, WithJsonSchema({"type": "string", "pattern": "^[0-9a-f]{4}(:[0-9a-f]{4})?$"})]
_Tag = Annotated[str, WithJsonSchema({"type": ["string", "number", "boolean"]})]
_PromptName = Annotated[str, Field(min_length=1), _must("the name of a prompt")]
_Prompts = Annotated[
    dict[str, str], BeforeValidator(_given_only), _must("names of prompts, each with its text")
]
_Version = Annotated[Literal["1"], WithJsonSchema({"const": 1})]
_Gpu = Annotated[str, _OneOf(SKUS)]
_Sorted = Annotated[tuple[_Item, ...], AfterValidator(_in_order)]


class _Section(BaseModel):
    """A mapping of the file. A key without a value, or with null, counts as left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        known = {field.alias or name for name, field in cls.model_fields.items()}
        return {key: value for key, value in given.items() if value is not None or key not in known}


class InputTypesSection(_Section):
    """Names of prompts, the model's own or those under `prompts`, for what texts are.

    Only needed where the names do not tell: `query` is for queries and `document`, `passage` or `corpus` for
    passages anyway.
    """

    query: _PromptName | None = Field(default=None, description="the prompt of queries: `s2p_query`")
    passage: _PromptName | None = Field(
        default=None, description="the prompt of passages: `retrieval.passage`"
    )


class ModelSection(_Section):
    """Leave out or set to `null` what you do not know: nothing is guessed.

    Golden vectors are found by name: `golden/<name of the file>.json`. The sizes of the network, from
    `num_parameters` on, serve the memory estimate; without them there is none.
    """

    name: str = Field(description="`org/name`; found in any case, also by the part after the slash")
    family: str | None = Field(
        default=None, description="what its network is called, for people; the model's own files decide"
    )
    aliases: tuple[str, ...] = Field(default=(), description="other names that find it")
    sources: tuple[_Source, ...] = Field(
        default=(),
        description="where to find its files, tried in order: `package:<module>/<folder>`, "
        "`hf:<org>/<name>`, `dir:<path>`",
    )
    revision: str | None = Field(default=None, description="commit of the source to use")
    weights_sha256: _Sha256 | None = Field(
        default=None, description="SHA-256 of `model.safetensors`; other weights are refused"
    )
    prompts: _Prompts = Field(
        default={},
        description="what is put before a text, by the prompt's name, such as `query` and `passage`, for "
        "models whose own files do not define it",
    )
    input_types: InputTypesSection = Field(
        default=InputTypesSection(), description="the prompts of queries and passages, see below"
    )
    matryoshka: tuple[_Count, ...] = Field(
        default=(), description="sizes a vector may be cut to; without them, `dimensions` is refused"
    )
    dimension: _Count | None = Field(default=None, description="size of the vector")
    max_text_tokens: _Count | None = Field(default=None, description="longest text, in tokens")
    num_parameters: _Count | None = Field(default=None, description="parameters of the network")
    vocabulary: _Count | None = Field(default=None, description="rows of its embedding table")
    hidden: _Count | None = Field(default=None, description="width of a hidden state")
    intermediate: _Count | None = Field(default=None, description="width of the feed-forward layer")
    layers: _Count | None = Field(default=None, description="number of layers")
    heads: _Count | None = Field(default=None, description="attention heads of a layer")


class RequiresSection(_Section):
    """What a profile requires of a machine; keys left out require nothing.

    A profile that names hardware (`capabilities`, `gpus`, `pci_ids`, `cpu_features`) counts as optimized for
    it and ranks before generic ones. fp8 needs capability 8.9 and bf16 8.0, whatever a profile says.
    """

    capabilities: _Sorted[_Capability] = Field(
        default=(), description='CUDA compute capabilities, each exact: `["9.0"]`'
    )
    min_capability: _Capability | None = Field(default=None, description="this capability or any newer")
    gpus: _Sorted[_Gpu] = Field(
        default=(),
        description="GPU models, each an exact product name, so `l4` is not an L40S: " + _quoted(SKUS),
    )
    pci_ids: _Sorted[_PciId] = Field(
        default=(), description="`device` or `device:vendor` in hex, for models we have no name for"
    )
    cpu_architectures: _Sorted[str] = Field(default=(), description="`x86_64`, `aarch64`")
    cpu_features: _Sorted[str] = Field(default=(), description="as in `/proc/cpuinfo`: `avx512_vnni`")
    operating_systems: _Sorted[str] = Field(default=(), description="`linux`")
    num_gpus: _Count = Field(default=1, description="number of equal GPUs needed; 1 by default")


class ProfileSection(_Section):
    """One way to run the model.

    Its id is the SHA-256 of all keys but `why`, and of the model's name, revision and weights: 64 hex digits.
    """

    name: _Name = Field(description="the name to pin it by: hardware, precision, backend")
    backend: Annotated[str, _OneOf(BACKENDS)] = Field(description=_quoted(BACKENDS))
    device: Annotated[str, _OneOf(DEVICES)] = Field(description=_quoted(DEVICES))
    precision: Annotated[str, _OneOf(PRECISIONS)] = Field(description=_quoted(PRECISIONS))
    min_cosine: _Cosine | None = Field(
        default=None,
        description="lowest cosine of a vector to its fp32 golden vector; left out, the bounds follow from "
        "precision and depth (docs/explanation/verification.md), stated, it replaces them",
    )
    min_mean_cosine: _Cosine | None = Field(
        default=None,
        description="lowest mean of these cosines; left out, none beside a stated `min_cosine`, else "
        "the one that follows from precision and depth",
    )
    max_batch_tokens: _Count | None = Field(
        default=None, description="token budget of a batch, if the backend's default does not suit"
    )
    max_text_tokens: _Count | None = Field(
        default=None, description="longest text in tokens, if shorter than the model's"
    )
    keep_16bit: tuple[_Layer, ...] = Field(
        default=(),
        description="layers that `torch` in `fp8` leaves in 16 bit: `[layers.0.down, layers.5.qkv]`; parts "
        "are `qkv`, `up`, `down`; choose them with `python -m benchmarks.quality.keep_16bit`",
    )
    requires: RequiresSection = Field(
        default=RequiresSection(), description="what it requires of the machine, see below"
    )
    tags: dict[str, _Tag] = Field(
        default={},
        description="more tags for `NIM_TAGS_SELECTOR`, in addition to `type`, `precision`, `device`, `gpu`, "
        "`compute_capability`",
    )
    why: str | None = Field(
        default=None, description="what it is for, if the rules would never choose it unasked"
    )

    @field_validator("keep_16bit")
    @classmethod
    def _only_fp8_of_torch(cls, layers: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if layers and (info.data.get("backend"), info.data.get("precision")) != ("torch", "fp8"):
            raise PydanticCustomError(
                "sentence", "is only for the torch backend in fp8; leave it out of other profiles"
            )
        return tuple(sorted(set(layers)))


class SetFile(_Section):
    """A file in `sets/`: profiles that manifests share."""

    version: _Version = Field(alias="schema", description="version of this format: 1")
    profiles: tuple[ProfileSection, ...] = Field(
        description="a list; names must be unique, also among those of other included sets"
    )


class ManifestFile(_Section):
    """One file per model: what the model is, and how it can be run."""

    version: _Version = Field(alias="schema", description="version of this format: 1")
    model: ModelSection = Field(description="what the model is")
    include: tuple[str, ...] = Field(
        default=(),
        description="sets of profiles to include, by the names of files in `sets/`; a folder `sets/` "
        "beside the manifest is searched before the shipped one",
    )
    profiles: tuple[ProfileSection, ...] = Field(
        default=(),
        description="the model's own profiles; names must be unique, also among those of included sets",
    )
