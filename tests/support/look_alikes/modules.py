"""The modules behind the transformer, in the spelling of the hub's files."""

from typing import Any

from support.look_alikes.layout import Module

HIDDEN = 64
IDENTITY = "torch.nn.modules.linear.Identity"
TANH = "torch.nn.modules.activation.Tanh"
NORMALIZE = Module(kind="Normalize", files="")
_MODES = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


def pooling(*modes: str, hidden: int = HIDDEN, **more: Any) -> Module:
    """The keys that sentence-transformers 2 to 5 write."""
    keys = {key: mode in modes for mode, key in _MODES.items()}
    return Module(kind="Pooling", config={"word_embedding_dimension": hidden, **keys, **more})


def new_pooling(*modes: str, hidden: int = HIDDEN, **more: Any) -> Module:
    """The keys that sentence-transformers 6 writes."""
    mode = modes[0] if len(modes) == 1 else list(modes)
    return Module(kind="Pooling", config={"embedding_dimension": hidden, "pooling_mode": mode, **more})


def dense(
    rows: int, columns: int = HIDDEN, *, bias: bool = True, activation: str = TANH, **more: Any
) -> Module:
    """A linear layer from `columns` to `rows` values."""
    sizes = {"in_features": columns, "out_features": rows}
    tensors: dict[str, tuple[int, ...]] = {"linear.weight": (rows, columns)}
    if bias:
        tensors["linear.bias"] = (rows,)
    config = {**sizes, "bias": bias, "activation_function": activation, **more}
    return Module(kind="Dense", config=config, tensors=tensors)


def layer_norm(size: int = HIDDEN) -> Module:
    """A LayerNorm over the pooled vector."""
    tensors = {"norm.weight": (size,), "norm.bias": (size,)}
    return Module(kind="LayerNorm", config={"dimension": size}, tensors=tensors)


DROPOUT = Module(kind="Dropout", config={"dropout": 0.1})
MEAN, CLS, LAST = pooling("mean"), pooling("cls"), pooling("lasttoken")
NORMALIZED_MEAN, NORMALIZED_CLS, NORMALIZED_LAST = (MEAN, NORMALIZE), (CLS, NORMALIZE), (LAST, NORMALIZE)
