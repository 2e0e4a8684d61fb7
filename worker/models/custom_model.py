"""Reads a custom model: an ONNX graph, and from the files next to it what the graph does not state."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from producer.errors import ModelError
from worker.models.architecture import Architecture, read_architecture
from worker.models.head import PLAIN_HEAD, Head, read_head, read_pooling
from worker.models.keys.modules import check_sentence_transformers_keys, check_transformer_settings
from worker.models.model import (
    TRANSFORMER_SETTINGS,
    UNLIMITED_TOKENS,
    Model,
    first_of,
    read_model,
    stated_matryoshka_dims,
)
from worker.models.onnx.custom_files import CustomFiles
from worker.models.onnx.graph_file import GraphFile, read_graph
from worker.models.unknown_family import stated_hidden, stated_positions
from worker.prompts import stated_default, stated_prompts

log = structlog.stdlib.get_logger(__name__)

# Families without code of ours whose position table begins with the rows up to the padding's id.
_POSITIONS_AFTER_PADDING = (
    "data2vec-text",
    "esm",
    "ibert",
    "lilt",
    "longformer",
    "luke",
    "roberta-prelayernorm",
    "xlm-roberta-xl",
    "xmod",
)
# Keys with which config.json files state the pooling; none of them is standard.
_POOLING_KEYS = ("pooling_mode", "pooling", "pooling_strategy", "emb_pooler")
_MAX_TEXT_TOKENS = 512  # the usual limit, if none is stated; verification tests it


def read_custom_model(found: CustomFiles) -> Model:
    """The model of an ONNX graph. Raises ModelError, naming what was found, if it is not recognised."""
    graph = read_graph(found.onnx, output=found.output)
    transformer = _tokenizer_directory(found)
    config = first_of(transformer, ("config.json",))
    settings = first_of(transformer, TRANSFORMER_SETTINGS)
    st_config = first_of(found.directory, ("config_sentence_transformers.json",))
    check_transformer_settings(settings, network=config)
    check_sentence_transformers_keys(st_config)
    architecture = _architecture(config, graph)
    head, prompts = _head(found.directory, config, graph), stated_prompts(st_config)
    if graph.pooled and not head.include_prompt and any(prompts.values()):
        raise ModelError(
            f"the model leaves the tokens of prompts out of pooling (include_prompt), but {found.onnx.name} "
            "pools all tokens itself; export a graph that ends at the hidden states"
        )
    model = Model(
        directory=found.directory,
        transformer=transformer,
        revision=graph.sha256[:12],
        network=architecture,
        head=head,
        max_text_tokens=_max_text_tokens(settings, transformer, architecture, graph),
        do_lower_case=bool(settings.get("do_lower_case", False)),
        prompts=prompts,
        default_prompt=stated_default(st_config),
        similarity=st_config.get("similarity_fn_name") or "cosine",
        matryoshka_dims=stated_matryoshka_dims(config),
        graph=graph,
    )
    _check_width(model, graph)
    return model


def reference_of(model: Model) -> Model | None:
    """The same model read from its safetensors, if they are next to the graph and the family is known."""
    try:
        reference = read_model(model.directory)
    except ModelError as error:
        log.info("custom_reference_absent", reason=str(error))
        return None
    return reference if reference.max_text_tokens >= model.max_text_tokens else None


def padding_id(model: Model) -> int:
    """The padding token's id. Padding is masked out, but some graphs derive positions from it."""
    return _count(first_of(model.transformer, ("config.json",)).get("pad_token_id")) or 0


def _tokenizer_directory(found: CustomFiles) -> Path:
    stated = read_head(found.directory)[0]  # the Transformer module's folder
    for directory in (stated, found.directory, found.onnx.parent):
        if (directory / "tokenizer.json").is_file():
            return directory
    seen = ", ".join(sorted(path.name for path in found.directory.iterdir())[:8])
    raise ModelError(
        f"{found.directory} has no tokenizer.json; save the model's tokenizer there as a fast tokenizer. "
        f"It contains {seen}"
    )


def _architecture(config: Mapping[str, Any], graph: GraphFile) -> Architecture:
    """The network of config.json if its family is known, else what the graph states about it."""
    try:
        return read_architecture(config)
    except ModelError as error:
        log.info("custom_network_unknown", reason=str(error))
    padding = config.get("pad_token_id", 1)  # transformers' default for these families
    after_padding = config.get("model_type") in _POSITIONS_AFTER_PADDING and type(padding) is int
    width = None if graph.pooled else graph.width
    return Architecture(
        kind="custom",
        vocab_size=graph.vocab_size or _count(config.get("vocab_size")) or 2**31 - 1,
        hidden=width or stated_hidden(config) or 0,
        layers=0,
        heads=0,
        kv_heads=0,
        head_dim=0,
        intermediate=0,
        activation="gelu",
        norm_eps=0.0,
        position_offset=padding + 1 if after_padding else 0,
        max_positions=stated_positions(config) or UNLIMITED_TOKENS,
        token_types=0,
    )


def _count(value: object) -> int | None:
    return value if type(value) is int and value > 0 else None


def _head(directory: Path, config: Mapping[str, Any], graph: GraphFile) -> Head:
    """As stated by modules.json, by the Pooling module's config or by config.json; else mean pooling."""
    if (directory / "modules.json").is_file():
        return read_head(directory)[1]
    stated = first_of(directory, ("1_Pooling/config.json",))
    source = "1_Pooling/config.json"
    if not stated:
        value = next((config[key] for key in _POOLING_KEYS if isinstance(config.get(key), str)), None)
        stated, source = ({"pooling_mode": value}, "config.json") if value else ({}, "none, assumed")
    poolings, include_prompt = read_pooling(stated) if stated else (PLAIN_HEAD.poolings, True)
    if not graph.pooled:
        log.info("custom_pooling", pooling="+".join(poolings), normalize=False, source=source)
    return Head(poolings=poolings, include_prompt=include_prompt)


def _max_text_tokens(
    settings: Mapping[str, Any], transformer: Path, architecture: Architecture, graph: GraphFile
) -> int:
    """The model's setting, else the tokenizer's, at most what network and graph take.

    512 if no file states a limit.
    """
    stated = settings.get("max_seq_length")
    if stated is None:
        stated = first_of(transformer, ("tokenizer_config.json",)).get("model_max_length")
    limits = (stated, architecture.max_tokens, graph.num_tokens)
    known = [limit for limit in limits if isinstance(limit, int | float) and 1 <= limit < UNLIMITED_TOKENS]
    return int(min(known, default=_MAX_TEXT_TOKENS))


def _check_width(model: Model, graph: GraphFile) -> None:
    """Raise ModelError for a graph that pools, but stops before a dense layer of modules.json."""
    stated = (model.directory / "modules.json").is_file() and model.network.hidden
    if graph.pooled and stated and graph.width not in (None, model.dim):
        raise ModelError(
            f"{graph.path.name} outputs {graph.output} of {graph.width} values per text, but modules.json "
            f"ends at {model.dim}; export a graph of all modules, or one that ends at the hidden states"
        )
