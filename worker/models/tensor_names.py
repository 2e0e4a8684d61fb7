"""The names of each family's tensors in its checkpoints, and of tensors there that no embedding uses."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorNames:
    """A family's names: `network` for tensors that exist once, `layer` for those below `<stem>.<index>.`.

    Keys are our names without the leaf (weight or bias). A tensor with several names is their concatenation.
    `prefix` precedes all names in checkpoints of models with a task head. With `factor_first`, a gated layer
    is stored with the half that is not activated first. With `norms_less_one` the weights of norms are stored
    less 1, and with `scaled_words` the rows of the word table are multiplied by the root of their length.
    """

    prefix: str
    network: Mapping[str, str]
    stem: str
    layer: Mapping[str, tuple[str, ...]]
    factor_first: bool = False
    norms_less_one: bool = False
    scaled_words: bool = False

    def sources(self, name: str) -> tuple[str, ...]:
        """The family's names of the tensors that make up ours."""
        if name.startswith("layers."):
            _, index, part, leaf = name.split(".")
            return tuple(f"{self.stem}.{index}.{source}.{leaf}" for source in self.layer[part])
        module, _, leaf = name.rpartition(".")
        if leaf in ("weight", "bias"):
            return (f"{self.network[module]}.{leaf}",)
        return (f"{self.network[name]}.weight",)


_BERT_NETWORK = {
    "embeddings.word": "embeddings.word_embeddings",
    "embeddings.position": "embeddings.position_embeddings",
    "embeddings.token_type": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "relative_bias": "encoder.relative_attention_bias",
}
_BERT_LAYER = {
    "qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "out": ("attention.output.dense",),
    "attention_norm": ("attention.output.LayerNorm",),
    "up": ("intermediate.dense",),
    "down": ("output.dense",),
    "output_norm": ("output.LayerNorm",),
}
_MPNET_LAYER = _BERT_LAYER | {
    "qkv": ("attention.attn.q", "attention.attn.k", "attention.attn.v"),
    "out": ("attention.attn.o",),
    "attention_norm": ("attention.LayerNorm",),
}
_DISTILBERT_LAYER = {
    "qkv": ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
    "out": ("attention.out_lin",),
    "attention_norm": ("sa_layer_norm",),
    "up": ("ffn.lin1",),
    "down": ("ffn.lin2",),
    "output_norm": ("output_layer_norm",),
}
_NOMIC_LAYER = {
    "qkv": ("attn.Wqkv",),
    "out": ("attn.out_proj",),
    "attention_norm": ("norm1",),
    "up": ("mlp.fc12", "mlp.fc11"),
    "down": ("mlp.fc2",),
    "output_norm": ("norm2",),
}
_GTE_LAYER = {
    "qkv": ("attention.qkv_proj",),
    "out": ("attention.o_proj",),
    "attention_norm": ("attn_ln",),
    "up": ("mlp.up_gate_proj",),
    "down": ("mlp.down_proj",),
    "output_norm": ("mlp_ln",),
}
_DECODER_LAYER = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "q_norm": ("self_attn.q_norm",),
    "k_norm": ("self_attn.k_norm",),
    "out": ("self_attn.o_proj",),
    "attention_norm": ("input_layernorm",),
    "up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
    "output_norm": ("post_attention_layernorm",),
}
_GEMMA_LAYER = _DECODER_LAYER | {
    "out_norm": ("post_attention_layernorm",),
    "output_norm": ("pre_feedforward_layernorm",),
    "down_norm": ("post_feedforward_layernorm",),
}
_MODERNBERT_LAYER = {
    "qkv": ("attn.Wqkv",),
    "out": ("attn.Wo",),
    "attention_norm": ("attn_norm",),
    "up": ("mlp.Wi",),
    "down": ("mlp.Wo",),
    "output_norm": ("mlp_norm",),
}
_MODERNBERT_NETWORK = {
    "embeddings.word": "embeddings.tok_embeddings",
    "embeddings.norm": "embeddings.norm",
    "final_norm": "final_norm",
}
_DECODER_NETWORK = {"embeddings.word": "embed_tokens", "final_norm": "norm"}


def _bert(prefix: str, layer: Mapping[str, tuple[str, ...]], stem: str = "encoder.layer") -> TensorNames:
    return TensorNames(prefix=prefix, network=_BERT_NETWORK, stem=stem, layer=layer)


TENSOR_NAMES = {
    "bert": _bert("bert.", _BERT_LAYER),
    "roberta": _bert("roberta.", _BERT_LAYER),
    "mpnet": _bert("mpnet.", _MPNET_LAYER),
    "distilbert": _bert("distilbert.", _DISTILBERT_LAYER, "transformer.layer"),
    "nomic_bert": TensorNames(
        prefix="bert.",
        network=_BERT_NETWORK | {"embeddings.norm": "emb_ln"},
        stem="encoder.layers",
        layer=_NOMIC_LAYER,
    ),
    "gte": TensorNames(
        prefix="new.", network=_BERT_NETWORK, stem="encoder.layer", layer=_GTE_LAYER, factor_first=True
    ),
    "modernbert": TensorNames(
        prefix="model.", network=_MODERNBERT_NETWORK, stem="layers", layer=_MODERNBERT_LAYER
    ),
    "decoder": TensorNames(prefix="model.", network=_DECODER_NETWORK, stem="layers", layer=_DECODER_LAYER),
    "gemma": TensorNames(
        prefix="model.",
        network=_DECODER_NETWORK,
        stem="layers",
        layer=_GEMMA_LAYER,
        norms_less_one=True,
        scaled_words=True,
    ),
}

# What training code puts before the names of a whole network: sentence-transformers, a parallel or compiled
# module, a model with a head.
_WRAPPERS = ("0.auto_model.", "0.model.", "auto_model.", "module.", "_orig_mod.", "model.")

# Tensors that a checkpoint may have in excess, by the start of the name that is left without wrappers.
_UNUSED = (
    # the pooler, which only BERT's own training reads: sentence embeddings pool hidden states
    "pooler.",
    # heads that predict tokens
    "cls.",
    "lm_head.",
    "vocab_",
    "head.",
    "decoder.",
    # heads of other tasks
    "classifier.",
    "pre_classifier.",
    "qa_outputs.",
    "score.",
    # buffers, which are computed from the configuration
    "embeddings.position_ids",
    "embeddings.token_type_ids",
)
_UNUSED_BUFFER = "rotary_emb.inv_freq"


def unwrapped(name: str, prefix: str) -> str:
    """A stored tensor's name in its family: without wrappers, and without the family's own `prefix`."""
    for wrapper in (*_WRAPPERS, prefix):
        if name.startswith(wrapper):
            return unwrapped(name.removeprefix(wrapper), prefix)
    return name


def is_unused(name: str) -> bool:
    """True for an unwrapped name of a tensor that no embedding uses: a head of a task, or a buffer."""
    return name.startswith(_UNUSED) or name.endswith(_UNUSED_BUFFER)
