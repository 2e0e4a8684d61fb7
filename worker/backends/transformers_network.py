"""Loads a network with transformers: safetensors only, no remote code, no missing tensors."""

from typing import Any

import torch

from producer.errors import BackendError
from worker.models.config_file import read_object
from worker.models.keys.remote_code import has_own_words
from worker.models.model import Model
from worker.models.network import Tensor
from worker.tokenization.token_types import uses_token_types

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# Keys that say in which direction tokens attend, and the value with which they see later ones.
_DIRECTIONS = {"is_causal": False, "use_bidirectional_attention": True}
_UNUSED = "pooler."  # for other tasks; missing from many checkpoints


def load_network(model: Model, device: torch.device, precision: str) -> Any:
    """The network in `precision` (fp32, fp16 or bf16) on `device`, in evaluation mode.

    Raises BackendError if transformers cannot load it, or if it does not output one vector per token.
    """
    if precision not in _DTYPES:
        raise BackendError(
            f"the transformers backend has no precision {precision!r:.40}; choose from {', '.join(_DTYPES)}"
        )
    if has_own_words(read_object(model.transformer / "config.json")):
        raise BackendError(
            "config.json has the keys of code that came with the model, which transformers would misread; "
            "choose a profile of another backend"
        )
    network = _from_directory(model, _DTYPES[precision])
    network.config.use_cache = False  # for decoders: we do not generate
    _check_token_types(model)
    _check_positions(model, network)
    network = network.eval().to(device)
    _check_output(model, network, device)
    _check_direction(model, network, device)
    return network


def _from_directory(model: Model, dtype: torch.dtype) -> Any:
    import transformers
    from safetensors import SafetensorError

    transformers.logging.disable_progress_bar()
    local = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = transformers.AutoConfig.from_pretrained(model.transformer, **local)
        # An encoder-decoder such as T5 embeds with its encoder alone.
        encoder_only = type(config) in transformers.MODEL_FOR_TEXT_ENCODING_MAPPING
        kind = transformers.AutoModelForTextEncoding if encoder_only else transformers.AutoModel
        if config.is_encoder_decoder and not encoder_only:
            raise ValueError("it is an encoder-decoder, and transformers has no class for its encoder alone")
        network, report = kind.from_pretrained(
            model.transformer,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            **local,
        )
    except (
        OSError,
        ValueError,
        KeyError,
        AttributeError,
        ImportError,
        RuntimeError,
        SafetensorError,
    ) as error:
        raise _unloadable(error, model) from error
    missing = sorted(name for name in report["missing_keys"] if not name.startswith(_UNUSED))
    if missing:
        raise BackendError(f"tensor {missing[0]} is missing from the weights; download the model again")
    return network


def _unloadable(error: Exception, model: Model) -> BackendError:
    """What to do about a network that transformers does not load."""
    import transformers

    kind, version = model.network.kind, f"transformers {transformers.__version__}"
    said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    if "ignore_mismatched_sizes" in str(error) or "size mismatch" in str(error):
        return BackendError(
            "the weights have other shapes than config.json describes: one of them is of another model or "
            f"revision; download the model again ({version}: {said})"
        )
    if kind not in transformers.CONFIG_MAPPING:
        return BackendError(f"{version} has no network {kind!r:.60}; a newer version may ({said})")
    return BackendError(
        f"{version} has the network {kind!r:.60}, but cannot load it from these files ({said}); "
        "compare config.json and the weights with those of the model's hub page"
    )


def _check_token_types(model: Model) -> None:
    """Backends receive ids only, but some tokenizers, such as XLNet's, use token types other than 0."""
    if uses_token_types(model.transformer):
        raise BackendError("the model's tokenizer uses token types other than 0, which are not supported")


def _check_positions(model: Model, network: Any) -> None:
    """Some families number positions from after a padding row, which config.json does not state."""
    for name, table in network.named_modules():
        if name.endswith("position_embeddings") and getattr(table, "padding_idx", None) is not None:
            room = len(table.weight) - table.padding_idx - 1
            if room < model.max_text_tokens:
                raise BackendError(
                    f"the network has positions for {room} tokens, but the model's files state "
                    f"{model.max_text_tokens}; set max_seq_length in sentence_bert_config.json"
                )


def _check_output(model: Model, network: Any, device: torch.device) -> None:
    ids = torch.zeros(1, 2, dtype=torch.int64, device=device)
    with torch.inference_mode():
        try:
            states: Tensor = network(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        except (AttributeError, TypeError, ValueError) as error:
            raise BackendError(
                f"a network of model_type {network.config.model_type!r:.60} does not output token vectors; "
                "it cannot be served"
            ) from error
    expected = (1, 2, model.network.hidden)
    if tuple(states.shape) != expected:
        raise BackendError(f"the network outputs {tuple(states.shape)} for two tokens, expected {expected}")


def _check_direction(model: Model, network: Any, device: torch.device) -> None:
    """Older versions, and families that never ask, ignore a key and attend in their usual direction."""
    import transformers

    config = read_object(model.transformer / "config.json")
    stated = {name: config[name] for name in _DIRECTIONS if isinstance(config.get(name), bool)}
    if not stated:
        return
    sees_later = _sees_later_tokens(network, device)
    for name, value in stated.items():
        if (value is _DIRECTIONS[name]) != sees_later:
            raise BackendError(
                f"config.json has {name} {str(value).lower()}, which transformers "
                f"{transformers.__version__} ignores for model_type {network.config.model_type!r:.60}; "
                "install a newer version, or correct the file"
            )


def _sees_later_tokens(network: Any, device: torch.device) -> bool:
    """True if a text's first vector depends on its second token."""
    ids = torch.tensor([[2, 3], [2, 4]], device=device)
    with torch.inference_mode():
        first = network(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[:, 0].float()
    return bool((first[0] - first[1]).abs().max() > 1e-4 * first.abs().max())
