"""Reads a model's description from its directory: network, head, limits, prompts, identity."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from producer.errors import BackendError, ModelError
from worker.models.architecture import Architecture, is_known_family, read_architecture
from worker.models.checkpoint import weight_files, weights_sha256
from worker.models.config_file import read_object
from worker.models.head import Head, is_static, plain_head, read_head
from worker.models.keys.modules import check_sentence_transformers_keys, check_transformer_settings
from worker.models.onnx.graph_file import GraphFile
from worker.models.other_kinds import refuse_other_encoders, refuse_other_formats, refuse_other_networks
from worker.models.static_table import read_static_table
from worker.models.unknown_family import UnknownFamily, read_unknown_family
from worker.prompts import stated_default, stated_prompts

# Files in which sentence-transformers stores the transformer's settings.
TRANSFORMER_SETTINGS = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)

UNLIMITED_TOKENS = 1 << 20  #: a limit of at least this many tokens is a placeholder for none


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Everything about a model except its weights.

    `transformer` is the folder with config.json, tokenizer and weights. `network` is an UnknownFamily if only
    the transformers backend can run it. `prompts` maps the model's prompt names to texts; `default_prompt` is
    one of these names or None. `matryoshka_dims` is empty if the files state none. Without
    `special_tokens` the tokenizer is tokenizer.json alone, and adds none. A custom model has a `graph`, which
    is run instead of the weights; `network` then contains only what the files state about it.
    """

    directory: Path
    transformer: Path
    revision: str
    network: Architecture | UnknownFamily
    head: Head
    max_text_tokens: int
    do_lower_case: bool
    prompts: Mapping[str, str]
    default_prompt: str | None
    similarity: str
    matryoshka_dims: tuple[int, ...]
    special_tokens: bool = True
    graph: GraphFile | None = None

    @property
    def architecture(self) -> Architecture:
        """The network as our own code runs it. Raises BackendError for an unknown family."""
        if isinstance(self.network, UnknownFamily):
            raise BackendError(
                f"only the transformers library supports model_type {self.network.kind!r:.60}; "
                "choose a profile of the transformers backend"
            )
        return self.network

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.head.dim(self.network.hidden)


def read_model(directory: Path, *, revision: str | None = None, sha256: str | None = None) -> Model:
    """The model in a sentence-transformers (or plain transformers) directory.

    `revision` defaults to the first 12 hex digits of the weights' SHA-256, which must be `sha256` if given.
    Raises ModelError if a file is missing, damaged or not supported, if the weights are pickled or not the
    expected ones, or if the model needs remote code.
    """
    if not directory.is_dir():
        raise ModelError(f"{directory} is not a directory; name one that contains a model")
    refuse_other_formats(directory)
    st_config = first_of(directory, ("config_sentence_transformers.json",))
    refuse_other_encoders(st_config)
    transformer, head = read_head(directory)
    refuse_other_formats(transformer)
    static = is_static(directory)
    # A table states its sizes itself.
    config = first_of(transformer, ("config.json",)) if static else read_object(transformer / "config.json")
    if not static and not (directory / "modules.json").is_file():
        head = plain_head(config)
    network, settings = _read_table(transformer) if static else _read_network(directory, transformer, config)
    weight_files(transformer)
    if revision is None or sha256 is not None:
        found = weights_sha256(transformer)
        if sha256 not in (None, found):
            raise ModelError(
                f"the weights in {transformer} have the SHA-256 {found}, expected {sha256}; "
                "they are damaged or from another revision, download them again"
            )
        revision = revision or found[:12]
    check_sentence_transformers_keys(st_config)
    model = Model(
        directory=directory,
        transformer=transformer,
        revision=revision,
        network=network,
        head=head,
        max_text_tokens=_max_text_tokens(settings, transformer, network),
        special_tokens=not static,
        do_lower_case=bool(settings.get("do_lower_case", False)),
        prompts=stated_prompts(st_config),
        default_prompt=stated_default(st_config),
        similarity=st_config.get("similarity_fn_name") or "cosine",
        matryoshka_dims=stated_matryoshka_dims(config),
    )
    head.dim(network.hidden)  # refuses modules whose sizes do not fit together
    return model


def _read_table(transformer: Path) -> tuple[Architecture, dict[str, Any]]:
    """The network of a StaticEmbedding, and its settings."""
    network = read_static_table(transformer)
    return network, {"max_seq_length": network.max_tokens}


def _read_network(
    directory: Path, transformer: Path, config: Mapping[str, Any]
) -> tuple[Architecture | UnknownFamily, dict[str, Any]]:
    """The network that config.json describes, and sentence-transformers' settings of its module."""
    refuse_other_networks(config, has_modules=(directory / "modules.json").is_file())
    network = read_architecture(config) if is_known_family(config) else read_unknown_family(config)
    settings = first_of(transformer, TRANSFORMER_SETTINGS)
    check_transformer_settings(settings, network=config)
    return network, settings


def first_of(directory: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """The JSON object in the first of these files that exists, else {}. Raises ModelError."""
    for name in names:
        if (directory / name).is_file():
            return read_object(directory / name)
    return {}


def _max_text_tokens(
    settings: Mapping[str, Any], transformer: Path, network: Architecture | UnknownFamily
) -> int:
    """As in sentence-transformers: the model's setting, else the tokenizer's, at most the positions.

    Where positions are computed for any length, the model's setting alone decides.
    """
    limit, num_positions = settings.get("max_seq_length"), network.max_tokens
    if limit is not None and isinstance(network, Architecture) and network.open_ended:
        num_positions = UNLIMITED_TOKENS
    if limit is None:
        limit = first_of(transformer, ("tokenizer_config.json",)).get("model_max_length")
    if limit is None:
        limit = num_positions
    # A tokenizer without a limit states 1e30, which JSON may parse as a float.
    if isinstance(limit, bool) or not isinstance(limit, int | float) or limit < 1:
        raise ModelError(f"the model's maximum text length is {limit!r:.60}; a number of tokens is expected")
    if num_positions is None and limit >= UNLIMITED_TOKENS:
        raise ModelError(
            "the model does not limit the length of texts; set max_seq_length in sentence_bert_config.json"
        )
    return int(limit if num_positions is None else min(limit, num_positions))


def stated_matryoshka_dims(config: Mapping[str, Any]) -> tuple[int, ...]:
    """From the key that models on the hub use and vLLM reads; there is no standard one."""
    dims = config.get("matryoshka_dimensions") or ()
    if not isinstance(dims, list | tuple) or not all(type(dim) is int and dim > 0 for dim in dims):
        raise ModelError(f"config.json has matryoshka_dimensions {dims!r:.60}; a list of sizes is expected")
    return tuple(sorted(dims))
