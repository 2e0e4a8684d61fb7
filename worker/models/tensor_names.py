"""The names of each family's tensors in its checkpoints."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorNames:
    """A family's names: `whole` for tensors that exist once, `parts` for a layer's, below `<stem>.<index>.`.

    Keys are our names without the leaf (weight or bias). A part with several names is stacked from them.
    `prefix` precedes all names in checkpoints of models with a task head. With `factor_first`, a gated
    layer is stored with the half first that is not activated.
    """

    prefix: str
    whole: Mapping[str, str]
    stem: str
    parts: Mapping[str, tuple[str, ...]]
    factor_first: bool = False

    def sources(self, name: str) -> tuple[str, ...]:
        """The family's names of the tensors that ours is made of."""
        if name.startswith("layers."):
            _, index, part, leaf = name.split(".")
            return tuple(f"{self.stem}.{index}.{source}.{leaf}" for source in self.parts[part])
        owner, _, leaf = name.rpartition(".")
        if leaf in ("weight", "bias"):
            return (f"{self.whole[owner]}.{leaf}",)
        return (f"{self.whole[name]}.weight",)


_BERT_WHOLE = {
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
_MODERNBERT_LAYER = {
    "qkv": ("attn.Wqkv",),
    "out": ("attn.Wo",),
    "attention_norm": ("attn_norm",),
    "up": ("mlp.Wi",),
    "down": ("mlp.Wo",),
    "output_norm": ("mlp_norm",),
}
_MODERNBERT_WHOLE = {
    "embeddings.word": "embeddings.tok_embeddings",
    "embeddings.norm": "embeddings.norm",
    "final_norm": "final_norm",
}
_DECODER_WHOLE = {"embeddings.word": "embed_tokens", "final_norm": "norm"}


def _bert(prefix: str, parts: Mapping[str, tuple[str, ...]], stem: str = "encoder.layer") -> TensorNames:
    return TensorNames(prefix=prefix, whole=_BERT_WHOLE, stem=stem, parts=parts)


TENSOR_NAMES = {
    "bert": _bert("bert.", _BERT_LAYER),
    "roberta": _bert("roberta.", _BERT_LAYER),
    "mpnet": _bert("mpnet.", _MPNET_LAYER),
    "distilbert": _bert("distilbert.", _DISTILBERT_LAYER, "transformer.layer"),
    "nomic_bert": TensorNames(
        prefix="bert.",
        whole=_BERT_WHOLE | {"embeddings.norm": "emb_ln"},
        stem="encoder.layers",
        parts=_NOMIC_LAYER,
    ),
    "gte": TensorNames(
        prefix="new.", whole=_BERT_WHOLE, stem="encoder.layer", parts=_GTE_LAYER, factor_first=True
    ),
    "modernbert": TensorNames(
        prefix="model.", whole=_MODERNBERT_WHOLE, stem="layers", parts=_MODERNBERT_LAYER
    ),
    "decoder": TensorNames(prefix="model.", whole=_DECODER_WHOLE, stem="layers", parts=_DECODER_LAYER),
}
