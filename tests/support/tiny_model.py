"""A BERT of some kilobytes with random weights, and the tokenizer of a real one."""

import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from support.custom_graphs import MINILM

_SHAPES = {
    "embeddings.word_embeddings.weight": (30_522, 8),
    "embeddings.position_embeddings.weight": (64, 8),
    "embeddings.token_type_embeddings.weight": (2, 8),
    "embeddings.LayerNorm.weight": (8,),
    "embeddings.LayerNorm.bias": (8,),
    **{
        f"encoder.layer.0.{name}.{part}": shape
        for name, shape in {
            "attention.self.query": (8, 8),
            "attention.self.key": (8, 8),
            "attention.self.value": (8, 8),
            "attention.output.dense": (8, 8),
            "attention.output.LayerNorm": (8,),
            "intermediate.dense": (16, 8),
            "output.dense": (8, 16),
            "output.LayerNorm": (8,),
        }.items()
        for part in ("weight", "bias")
    },
}
CONFIG = {
    "model_type": "bert",
    "vocab_size": 30_522,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 64,
}


def write_tiny_model(directory: Path) -> Path:
    """config.json, tokenizer.json and model.safetensors."""
    random = np.random.default_rng(0)
    tensors = {}
    for name, shape in _SHAPES.items():
        size = shape[:1] if name.endswith("bias") else shape
        tensors[name] = random.normal(size=size).astype(np.float32)
    save_file(tensors, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(CONFIG))
    shutil.copy(MINILM / "tokenizer.json", directory)
    return directory
