"""Reading tensors under one naming."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import save_file

from producer.errors import ModelError
from worker.models.architecture import Architecture, read_architecture
from worker.models.checkpoint import weights_sha256
from worker.models.weights import read_weights, tensor_shapes

Tensors = dict[str, npt.NDArray[Any]]
CONFIG = {
    "model_type": "bert",
    "vocab_size": 11,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 9,
}
BERT = read_architecture(CONFIG)
LAYER = {
    "attention.self.query": (8, 8),
    "attention.self.key": (8, 8),
    "attention.self.value": (8, 8),
    "attention.output.dense": (8, 8),
    "attention.output.LayerNorm": (8,),
    "intermediate.dense": (12, 8),
    "output.dense": (8, 12),
    "output.LayerNorm": (8,),
}


def bert_tensors() -> Tensors:
    """A tiny BERT as transformers stores it, without any prefix."""
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (11, 8),
        "embeddings.position_embeddings.weight": (9, 8),
        "embeddings.token_type_embeddings.weight": (2, 8),
        "embeddings.LayerNorm.weight": (8,),
        "embeddings.LayerNorm.bias": (8,),
    }
    for layer in range(2):
        for name, shape in LAYER.items():
            shapes[f"encoder.layer.{layer}.{name}.weight"] = shape
            shapes[f"encoder.layer.{layer}.{name}.bias"] = shape[:1]
    random = np.random.default_rng(3)
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def read(directory: Path, tensors: Tensors, architecture: Architecture = BERT) -> Any:
    save_file(tensors, directory / "model.safetensors")
    return read_weights(directory, architecture)


def test_every_tensor_gets_our_name_and_shape(tmp_path: Path) -> None:
    """All canonical names are there, float32, with the shapes that tensor_shapes promises."""
    found = read(tmp_path, bert_tensors())
    assert {name: array.shape for name, array in found.items()} == tensor_shapes(BERT)
    assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}


def test_query_key_and_value_are_stacked_in_this_order(tmp_path: Path) -> None:
    """Rows 0 to 7 of the fused tensor are the query's, then the key's, then the value's."""
    tensors = bert_tensors()
    found = read(tmp_path, tensors)
    for leaf in ("weight", "bias"):
        parts = [
            tensors[f"encoder.layer.1.attention.self.{part}.{leaf}"] for part in ("query", "key", "value")
        ]
        np.testing.assert_array_equal(found[f"layers.1.qkv.{leaf}"], np.concatenate(parts))
    np.testing.assert_array_equal(
        found["layers.0.down.weight"], tensors["encoder.layer.0.output.dense.weight"]
    )


def test_a_prefix_heads_and_buffers_change_nothing(tmp_path: Path) -> None:
    """A checkpoint of a masked language model gives the same tensors as the bare encoder."""
    plain = read(tmp_path, bert_tensors())
    dressed: Tensors = {f"bert.{name}": array for name, array in bert_tensors().items()}
    dressed["bert.pooler.dense.weight"] = np.zeros((8, 8), np.float32)
    dressed["cls.predictions.bias"] = np.zeros(11, np.float32)
    dressed["bert.embeddings.position_ids"] = np.arange(9)[None]
    found = read(tmp_path, dressed)
    for name, array in plain.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize(
    "wrapper", ["0.auto_model.", "0.auto_model.bert.", "auto_model.", "module.", "model.", "_orig_mod.bert."]
)
def test_wrappers_of_training_code_change_nothing(tmp_path: Path, wrapper: str) -> None:
    """Whatever a whole network's names were put behind, they are found."""
    plain = read(tmp_path, bert_tensors())
    found = read(tmp_path, {wrapper + name: array for name, array in bert_tensors().items()})
    assert all(np.array_equal(found[name], array) for name, array in plain.items())


def test_a_tensor_stored_twice_is_refused(tmp_path: Path) -> None:
    """With two of a name it is not known which is meant."""
    name = "embeddings.word_embeddings.weight"
    twice = bert_tensors() | {f"bert.{name}": np.ones((11, 8), np.float32)}
    with pytest.raises(ModelError, match=f"both bert.{name} and {name}|both {name} and bert.{name}"):
        read(tmp_path, twice)


@pytest.mark.parametrize(
    "name",
    [
        "pooler.dense.weight",
        "cls.predictions.decoder.weight",
        "lm_head.weight",
        "classifier.out_proj.bias",
        "score.weight",
        "rotary_emb.inv_freq",
        "encoder.layer.0.attention.rotary_emb.inv_freq",
        "embeddings.token_type_ids",
    ],
)
def test_heads_and_buffers_are_left_out(tmp_path: Path, name: str) -> None:
    """Each kind on the list, with and without the family's prefix."""
    for prefix in ("", "bert."):
        extra = {prefix + name: np.ones(3, np.float32)}
        assert read(tmp_path, bert_tensors() | extra).keys() == tensor_shapes(BERT).keys()


def test_norms_in_tensorflow_spelling_are_understood(tmp_path: Path) -> None:
    """gamma and beta of old checkpoints are weight and bias."""
    tensors = bert_tensors()
    gamma = tensors.pop("embeddings.LayerNorm.weight")
    tensors |= {
        "embeddings.LayerNorm.gamma": gamma,
        "embeddings.LayerNorm.beta": tensors.pop("embeddings.LayerNorm.bias"),
    }
    np.testing.assert_array_equal(read(tmp_path, tensors)["embeddings.norm.weight"], gamma)


def test_shards_are_read_as_one(tmp_path: Path) -> None:
    """Two files and their index give what one file gives, and have one hash."""
    whole = read(tmp_path, bert_tensors())
    (tmp_path / "model.safetensors").unlink()
    names = sorted(bert_tensors())
    weight_map: dict[str, str] = {}
    for number, part in enumerate((names[:10], names[10:]), start=1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: bert_tensors()[name] for name in part}, tmp_path / file)
        weight_map |= dict.fromkeys(part, file)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    found = read_weights(tmp_path, BERT)
    assert all(np.array_equal(found[name], array) for name, array in whole.items())
    assert len(weights_sha256(tmp_path)) == 64
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model-00002-of-00002\.safetensors is missing"):
        read_weights(tmp_path, BERT)


def test_one_file_goes_before_an_index(tmp_path: Path) -> None:
    """As in transformers, where both are there."""
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"x": "gone.safetensors"}}')
    assert read(tmp_path, bert_tensors()).keys() == tensor_shapes(BERT).keys()


def test_half_precision_is_widened(tmp_path: Path) -> None:
    """float16 tensors come out as the same numbers in float32."""
    halves: Tensors = {name: array.astype(np.float16) for name, array in bert_tensors().items()}
    found = read(tmp_path, halves)["embeddings.word"]
    np.testing.assert_array_equal(found, halves["embeddings.word_embeddings.weight"].astype(np.float32))


def test_bfloat16_is_widened(tmp_path: Path) -> None:
    """The upper half of a float32 is that number in bfloat16, and is read back as such."""
    header: dict[str, Any] = {}
    data = b""
    for name, array in bert_tensors().items():
        upper = (array.view(np.uint32) >> 16).astype("<u2").tobytes()
        span = [len(data), len(data) + len(upper)]
        header[name] = {"dtype": "BF16", "shape": array.shape, "data_offsets": span}
        data += upper
    encoded = json.dumps(header).encode()
    file = len(encoded).to_bytes(8, "little") + encoded + data
    (tmp_path / "model.safetensors").write_bytes(file)
    found = read_weights(tmp_path, BERT)["embeddings.word"]
    np.testing.assert_allclose(found, bert_tensors()["embeddings.word_embeddings.weight"], rtol=2**-7)
    assert not (found.view(np.uint32) & 0xFFFF).any()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"encoder.layer.1.output.dense.bias": None}, "encoder.layer.1.output.dense.bias is missing"),
        ({"encoder.layer.0.attention.self.key.weight": None}, "attention.self.key.weight is missing"),
        ({"encoder.layer.2.output.dense.bias": np.zeros(8, np.float32)}, "encoder.layer.2.output.dense.bias"),
        ({"adapter.weight": np.zeros(8, np.float32)}, "adapter.weight does not belong"),
        ({"embeddings.word_embeddings.weight": np.zeros((12, 8), np.float32)}, r"\(12, 8\).*\(11, 8\)"),
        ({"encoder.layer.0.attention.self.key.weight": np.zeros((9, 8), np.float32)}, "25 rows.*24"),
        ({"encoder.layer.0.attention.self.key.weight": np.zeros((8, 9), np.float32)}, r"\(8, 9\)"),
        ({"embeddings.LayerNorm.bias": np.zeros(8, np.int64)}, "stored as I64"),
    ],
)
def test_a_wrong_tensor_is_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    """Missing, left over, misshapen and non-float tensors are refused with their names."""
    tensors = bert_tensors() | change
    with pytest.raises(ModelError, match=said):
        read(tmp_path, {name: array for name, array in tensors.items() if array is not None})


@pytest.mark.parametrize("size", [0, 7, 100, -1])
def test_a_cut_file_is_refused(tmp_path: Path, size: int) -> None:
    """A half-downloaded safetensors file is recognised, wherever it was cut."""
    path = tmp_path / "model.safetensors"
    save_file(bert_tensors(), path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ModelError, match="not a complete safetensors file"):
        read_weights(tmp_path, BERT)


def test_a_pickled_checkpoint_is_refused_with_the_way_out(tmp_path: Path) -> None:
    """Where there is only pytorch_model.bin, the error says why it is not opened and how to convert it."""
    with pytest.raises(
        ModelError, match=r"missing.*published as pytorch_model\.bin only, run `worker convert"
    ):
        read_weights(tmp_path, BERT)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin.*can run code.*`worker convert MODEL OUT`"):
        read_weights(tmp_path, BERT)


def test_an_index_that_lists_nothing_is_refused(tmp_path: Path) -> None:
    """A broken index of shards is named."""
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ModelError, match="lists no shards"):
        read_weights(tmp_path, BERT)
