"""A BERT of any size with random weights, for speed measurements; needs the extra `dev`."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from worker.models.architecture import read_architecture
from worker.models.tensor_names import TENSOR_NAMES
from worker.models.weights import tensor_shapes

MINILM = {"hidden": 384, "layers": 6, "heads": 12}
BERT_BASE = {"hidden": 768, "layers": 12, "heads": 12}
BERT_LARGE = {"hidden": 1024, "layers": 24, "heads": 16}


def save_random_bert(directory: Path, *, hidden: int, layers: int, heads: int) -> None:
    """Write config.json and model.safetensors in transformers' format, with weights initialised alike."""
    config = {
        "model_type": "bert",
        "vocab_size": 30522,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden,
        "max_position_embeddings": 512,
    }
    (directory / "config.json").write_text(json.dumps(config))
    random, tensors = np.random.default_rng(0), {}
    for name, shape in tensor_shapes(read_architecture(config)).items():
        sources = TENSOR_NAMES["bert"].sources(name)
        for source in sources:
            part = (shape[0] // len(sources), *shape[1:])
            if len(shape) == 1:
                tensors[source] = np.full(part, name.endswith("weight"), np.float32)
            else:
                tensors[source] = (random.standard_normal(part, np.float32) * 0.02).astype(np.float32)
    save_file(tensors, directory / "model.safetensors")
