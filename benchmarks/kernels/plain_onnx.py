"""A plainly exported graph as a baseline: transformers' BERT, mean pooling, padded texts.

Exported by torch with eager attention in fp16 and run by ONNX Runtime with default options on the first GPU.
"""

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from worker.contract import Tokens


class PlainOnnx:
    """Embeds batches of texts of similar length, one at a time."""

    def __init__(self, directory: Path, *, provider: str = "CUDAExecutionProvider") -> None:
        import onnxruntime

        self._device = "cuda" if provider.startswith("CUDA") else "cpu"
        with tempfile.TemporaryDirectory() as folder:
            graph = Path(folder) / "plain.onnx"
            _export(directory, graph, half=self._device == "cuda")
            self._session = onnxruntime.InferenceSession(str(graph), providers=[provider])

    def embed(self, tokens: Tokens, *, batch_texts: int) -> np.ndarray:
        """Vectors float32 (n, dim) of all texts, `batch_texts` at a time."""
        lengths, parts = tokens.lengths, []
        order = np.argsort(-lengths, kind="stable")
        for start in range(0, len(order), batch_texts):
            parts.append(self._run(tokens, order[start : start + batch_texts]))
        vectors = np.empty((len(tokens), parts[0].shape[1]), np.float32)
        vectors[order] = np.concatenate(parts)
        return vectors

    def _run(self, tokens: Tokens, texts: np.ndarray) -> np.ndarray:
        from onnxruntime import OrtValue

        lengths = tokens.lengths[texts]
        mask = np.arange(lengths.max()) < lengths[:, None]
        ids = np.zeros(mask.shape, np.int64)
        ids[mask] = np.concatenate([tokens.ids[slice(*tokens.offsets[text : text + 2])] for text in texts])
        binding = self._session.io_binding()
        for name, array in (("ids", ids), ("mask", mask.astype(np.int64))):
            binding.bind_ortvalue_input(name, OrtValue.ortvalue_from_numpy(array, self._device, 0))
        binding.bind_output("vectors", self._device, 0)
        self._session.run_with_iobinding(binding)
        found: np.ndarray = binding.copy_outputs_to_cpu()[0]
        return found


def _export(directory: Path, graph: Path, *, half: bool) -> None:
    import torch
    from transformers import BertModel

    class Pooled(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy
        def __init__(self) -> None:
            super().__init__()
            self.bert = BertModel.from_pretrained(
                directory, attn_implementation="eager", add_pooling_layer=False
            )

        def forward(self, ids: Any, mask: Any) -> Any:
            states = self.bert(ids, attention_mask=mask).last_hidden_state.float()
            weights = mask[:, :, None].float()
            mean = (states * weights).sum(1) / weights.sum(1)
            return torch.nn.functional.normalize(mean, dim=1)

    module = Pooled().eval()
    if half:
        module.bert.half()
    inputs = torch.ones(2, 8, dtype=torch.int64), torch.ones(2, 8, dtype=torch.int64)
    axes = {"ids": {0: "b", 1: "s"}, "mask": {0: "b", 1: "s"}, "vectors": {0: "b"}}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            inputs,
            str(graph),
            input_names=["ids", "mask"],
            output_names=["vectors"],
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )
