"""A network loaded by transformers: from safetensors, with no code but the library's, complete."""

from typing import Any

import torch
from tokenizers import Tokenizer

from producer.errors import BackendError
from worker.encoder.network import Tensor
from worker.models.model import Model

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_UNUSED = "pooler."  # of other tasks; many checkpoints lack it


def load_network(model: Model, device: torch.device, precision: str) -> Any:
    """The network in `precision` (fp32, fp16 or bf16) on `device`, in evaluation mode.

    Raises BackendError for what transformers cannot load or what would not give one vector a token.
    """
    if precision not in _DTYPES:
        raise BackendError(
            f"transformers runs no precision {precision!r:.40} here; choose from {', '.join(_DTYPES)}"
        )
    network = _from_directory(model, _DTYPES[precision])
    network.config.use_cache = False  # of decoders: nothing is generated
    _refuse_token_types(model)
    _refuse_short_table(model, network)
    network = network.eval().to(device)
    _refuse_other_output(model, network, device)
    return network


def _from_directory(model: Model, dtype: torch.dtype) -> Any:
    import transformers
    from safetensors import SafetensorError

    transformers.logging.disable_progress_bar()
    local = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = transformers.AutoConfig.from_pretrained(model.transformer, **local)
        # Of T5's two halves only the encoder makes embeddings.
        halved = type(config) in transformers.MODEL_FOR_TEXT_ENCODING_MAPPING
        kind = transformers.AutoModelForTextEncoding if halved else transformers.AutoModel
        if config.is_encoder_decoder and not halved:
            raise ValueError("it is an encoder and a decoder, and its encoder has no class of its own")
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
        raise BackendError(
            f"transformers {transformers.__version__} cannot load the network ({type(error).__name__}: "
            f"{str(error).strip()[:200]}); a newer version may"
        ) from error
    missing = sorted(name for name in report["missing_keys"] if not name.startswith(_UNUSED))
    if missing:
        raise BackendError(f"tensor {missing[0]} is missing from the weights; download the model again")
    return network


def _refuse_token_types(model: Model) -> None:
    """XLNet's tokenizer, for one, marks a token with a type; only ids reach a backend."""
    path = model.transformer / "tokenizer.json"
    if path.is_file() and any(Tokenizer.from_file(str(path)).encode("a text").type_ids):
        raise BackendError("the model's tokenizer gives tokens types other than 0; that is not supported")


def _refuse_short_table(model: Model, network: Any) -> None:
    """Some families count positions from behind a padding row, which config.json does not show."""
    for name, table in network.named_modules():
        if name.endswith("position_embeddings") and getattr(table, "padding_idx", None) is not None:
            room = table.num_embeddings - table.padding_idx - 1
            if room < model.max_text_tokens:
                raise BackendError(
                    f"the network has positions for {room} tokens, the model's files promise "
                    f"{model.max_text_tokens}; write max_seq_length into sentence_bert_config.json"
                )


def _refuse_other_output(model: Model, network: Any, device: torch.device) -> None:
    ids = torch.zeros(1, 2, dtype=torch.int64, device=device)
    with torch.inference_mode():
        try:
            states: Tensor = network(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        except (AttributeError, TypeError, ValueError) as error:
            raise BackendError(
                f"a network of model_type {network.config.model_type!r:.60} gives no vectors of tokens; "
                "it cannot be served"
            ) from error
    expected = (1, 2, model.network.hidden)
    if tuple(states.shape) != expected:
        raise BackendError(f"the network gives {tuple(states.shape)} for two tokens, expected {expected}")
