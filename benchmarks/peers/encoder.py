"""Measures sentence-transformers and a plain transformers loop on the same shapes and lengths, as JSON.

    python -m benchmarks.peers.encoder --shapes minilm,base,large --mean 177 --output peers.json

Both run in fp16 with the best batch size of those tried. The loop receives token ids in batches sorted by
length; sentence-transformers receives texts, which it has to tokenize.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from sentence_transformers import SentenceTransformer

from benchmarks.kernels.encoder_cases import MAX_TEXT_TOKENS, batches, network

NUM_TOKENS = 500_000
BATCH_TEXTS = (64, 256, 1024)


def bert(shape: str) -> Any:
    """transformers' BERT of that shape, with random weights."""
    sizes = network(shape)
    config = transformers.BertConfig(
        vocab_size=sizes.vocab_size,
        hidden_size=sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        intermediate_size=sizes.intermediate,
        attn_implementation="sdpa",
    )
    return transformers.BertModel(config, add_pooling_layer=False).eval()


def rows_of(mean_tokens: int) -> list[list[int]]:
    """The token ids of each text."""
    tokens = batches(mean_tokens, NUM_TOKENS, count=1)[0]
    return [part.tolist() for part in np.split(tokens.ids, tokens.offsets[1:-1])]


def plain_loop(model: Any, rows: list[list[int]], batch_texts: int) -> None:
    """Embed sorted, padded batches with mean pooling, and copy the vectors to the host."""
    rows = sorted(rows, key=len, reverse=True)
    for first in range(0, len(rows), batch_texts):
        part = [torch.tensor(row) for row in rows[first : first + batch_texts]]
        ids = torch.nn.utils.rnn.pad_sequence(part, batch_first=True).cuda()
        lengths = torch.tensor([len(row) for row in part], device="cuda")
        mask = torch.arange(ids.shape[1], device="cuda")[None] < lengths[:, None]
        hidden = model(ids, attention_mask=mask.long()).last_hidden_state.float()
        pooled = (hidden * mask[..., None]).sum(1) / lengths[:, None]
        torch.nn.functional.normalize(pooled).cpu()


def sentence_transformer(model: Any, directory: Path) -> SentenceTransformer:
    """The network in sentence-transformers, with a vocabulary of one word per id."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words += [f"w{index}" for index in range(len(words), model.config.vocab_size)]
    (directory / "vocab.txt").write_text("\n".join(words))
    model.save_pretrained(directory)
    tokenizer = transformers.BertTokenizerFast(
        vocab={word: index for index, word in enumerate(words)}, model_max_length=MAX_TEXT_TOKENS
    )
    tokenizer.save_pretrained(directory)
    return SentenceTransformer(str(directory), device="cuda", model_kwargs={"torch_dtype": torch.float16})


def fastest(run: Callable[[int], None], num_tokens: int) -> dict[str, float]:
    """Best tokens/s over all batch sizes: the better of two runs each, after a warm-up run."""
    rates = {}
    for batch_texts in BATCH_TEXTS:
        times = []
        for _ in range(3):
            begun = time.perf_counter()
            run(batch_texts)
            times.append(time.perf_counter() - begun)
        rates[batch_texts] = num_tokens / min(times[1:])
    best = max(rates, key=lambda key: rates[key])
    return {"batch_texts": best, "tokens_per_s": rates[best]}


def compare(shape: str, mean_tokens: int) -> dict[str, Any]:
    """Measure both peers with one shape."""
    rows = rows_of(mean_tokens)
    num_tokens = sum(len(row) for row in rows)
    model = bert(shape)
    with tempfile.TemporaryDirectory() as directory:
        peer = sentence_transformer(model, Path(directory))
        texts = [" ".join(f"w{index}" for index in row[: MAX_TEXT_TOKENS - 2]) for row in rows]
        st = fastest(lambda size: peer.encode(texts, batch_size=size, show_progress_bar=False), num_tokens)
    model = model.half().cuda()
    loop = fastest(lambda size: plain_loop(model, rows, size), num_tokens)
    return {
        "shape": shape,
        "mean_tokens": mean_tokens,
        "sentence_transformers": st,
        "transformers_sdpa": loop,
    }


def main() -> None:
    """Measure the requested shapes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", default="minilm,base,large")
    parser.add_argument("--mean", type=int, default=177)
    parser.add_argument("--output", type=Path, default=Path("encoder_peers.json"))
    arguments = parser.parse_args()
    torch.set_grad_enabled(False)
    rows = []
    for shape in arguments.shapes.split(","):
        rows.append(compare(shape, arguments.mean))
        print(json.dumps(rows[-1]), flush=True)
    arguments.output.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
