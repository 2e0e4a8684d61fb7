"""The config.json of models that bring code along, made of files that transformers saved."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Config = dict[str, Any]
NOMIC_CODE = {
    "AutoConfig": "nomic-ai/nomic-bert-2048--configuration_hf_nomic_bert.NomicBertConfig",
    "AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel",
    "AutoModelForMaskedLM": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertForPreTraining",
}
NEW_CODE = {
    "AutoConfig": "Alibaba-NLP/new-impl--configuration.NewConfig",
    "AutoModel": "Alibaba-NLP/new-impl--modeling.NewModel",
    "AutoModelForMaskedLM": "Alibaba-NLP/new-impl--modeling.NewForMaskedLM",
}
GTE_CODE = {
    "AutoConfig": "configuration_hf_alibaba_nlp_gte.GteConfig",
    "AutoModel": "modeling_hf_alibaba_nlp_gte.GteModel",
}
LLAMA_CODE = {
    "AutoConfig": "llama_bidirectional_model.LlamaBidirectionalConfig",
    "AutoModel": "llama_bidirectional_model.LlamaBidirectionalModel",
}
QWEN2_CODE = {
    "AutoModel": "modeling_qwen.Qwen2Model",
    "AutoModelForCausalLM": "modeling_qwen.Qwen2ForCausalLM",
    "AutoModelForSequenceClassification": "modeling_qwen.Qwen2ForSequenceClassification",
}


def nomic(saved: Mapping[str, Any]) -> Config:
    """nomic-embed-text-v1.5 as it was until 2026: the keys of GPT-2 and of flash-attn."""
    return {
        "model_type": "nomic_bert",
        "architectures": ["NomicBertModel"],
        "auto_map": NOMIC_CODE,
        "activation_function": "swiglu",
        "attn_pdrop": 0.0,
        "causal": False,
        "dense_seq_output": True,
        "fused_bias_fc": True,
        "fused_dropout_add_ln": True,
        "layer_norm_epsilon": saved["layer_norm_eps"],
        "max_trained_positions": 2048,
        "mlp_fc1_bias": False,
        "mlp_fc2_bias": False,
        "n_embd": saved["hidden_size"],
        "n_head": saved["num_attention_heads"],
        "n_inner": saved["intermediate_size"],
        "n_layer": saved["num_hidden_layers"],
        "n_positions": saved["max_position_embeddings"],
        "pad_vocab_size_multiple": 64,
        "parallel_block": False,
        "parallel_block_tied_norm": False,
        "prenorm": False,
        "qkv_proj_bias": False,
        "rotary_emb_base": 1000,
        "rotary_emb_fraction": 1.0,
        "rotary_emb_interleaved": False,
        "rotary_emb_scale_base": None,
        "rotary_scaling_factor": None,
        "scale_attn_weights": True,
        "type_vocab_size": saved["type_vocab_size"],
        "use_flash_attn": True,
        "use_rms_norm": False,
        "use_xentropy": True,
        "vocab_size": saved["vocab_size"],
    }


def nomic_in_both(saved: Mapping[str, Any]) -> Config:
    """As its main branch is since: the keys of transformers beside the old ones."""
    return {**saved, **nomic(saved), "rope_parameters": {"rope_theta": 1000.0, "rope_type": "default"}}


def new(saved: Mapping[str, Any]) -> Config:
    """Alibaba's own files; as gte-base-en-v1.5's, but for the sizes."""
    same = (
        "vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size hidden_act "
        "max_position_embeddings type_vocab_size layer_norm_eps"
    )
    return {name: saved[name] for name in same.split()} | {
        "model_type": "new",
        "architectures": ["NewModel"],
        "auto_map": NEW_CODE,
        "attention_probs_dropout_prob": 0.0,
        "hidden_dropout_prob": 0.1,
        "layer_norm_type": "layer_norm",
        "logn_attention_clip1": False,
        "logn_attention_scale": False,
        "pack_qkv": True,
        "position_embedding_type": "rope",
        "rope_scaling": {"factor": 2.0, "type": "ntk"},
        "rope_theta": 500,
        "unpad_inputs": False,
        "use_memory_efficient_attention": False,
    }


def respelled(directory: Path, spelling: Callable[[Mapping[str, Any]], Config]) -> None:
    """Rewrite the config.json of a saved network."""
    path = directory / "config.json"
    path.write_text(json.dumps(spelling(json.loads(path.read_text()))))
