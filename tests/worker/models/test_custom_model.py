"""Somebody else's graph beside a tokenizer is served like any model, or refused with what was seen."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from support.custom_graphs import MINILM, NAMES, TABLE, states_of, write_graph, write_model

from producer.contract import Truncate
from producer.errors import SettingsError
from worker.cli.main import main
from worker.contract import FloatArray
from worker.models.custom_model import read_custom_model
from worker.models.onnx.custom_files import find_custom_files
from worker.settings import Settings, read_settings
from worker.startup.boot import boot
from worker.startup.survey import survey

TEXTS = ["a", "A man is eating food.", "The quantum computer factored a large integer.", "b c", ""]


def vectors_of(directory: Path, texts: list[str] = TEXTS) -> tuple[Any, list[Any]]:
    """The vectors of the texts in one batch, and the token ids of each; booted and verified before."""
    booted = boot(Settings(custom_model=directory))
    try:
        tokens = booted.tokenizer.encode(texts, Truncate.END).tokens
        found = booted.backend.collect(booted.backend.launch(tokens))
    finally:
        booted.backend.close()
    return found, np.split(tokens.ids, tokens.offsets[1:-1])


def run(command: str, directory: Path, **environment: str) -> Result:
    given = {"EMBEDMILL_CUSTOM_MODEL": str(directory), "EMBEDMILL_OFFLINE": "1", **environment}
    return CliRunner().invoke(main, [command], env=given)


@pytest.mark.parametrize(
    "export",
    [
        {},
        {"ints": "int32"},
        {"names": {"ids": "input_ids", "mask": "attention_mask"}},
        {"names": {"ids": "a", "mask": "b", "types": "c"}},
        {"names": {"types": "first", "mask": "second", "ids": "third"}, "ints": "int32"},
        {"names": {"ids": "tokens"}},
        {"output": "1234"},
        {"pooled": True, "output": "sentence_embedding"},
        {"pooled": True, "output": "out", "shape": (1, 64)},
        {"shape": (2, 64)},
        {"shape": (4, "sequence")},
        {"halves": True},
        {"halves": True, "pooled": True, "output": "embeddings"},
        {"external": True},
    ],
    ids=str,
)
def test_usual_exports_are_recognised(tmp_path: Path, export: dict[str, Any]) -> None:
    """Whatever inputs are called and of whatever integers: every text gets the mean of its own tokens."""
    found, ids = vectors_of(write_model(tmp_path / "mine", **export))
    expected = [states_of(each).mean(axis=0) for each in ids]
    np.testing.assert_allclose(found, expected, atol=5e-3 if export.get("halves") else 1e-5)


def test_a_graph_may_lie_in_a_folder_of_its_own(tmp_path: Path) -> None:
    """As exporters for the hub place it; of several the one in full precision is taken, or the one named."""
    directory = write_model(tmp_path / "mine")
    (directory / "onnx").mkdir()
    (directory / "model.onnx").rename(directory / "onnx/model.onnx")
    write_graph(directory / "onnx/model_O4.onnx", table=2 * TABLE)
    whole, _ = vectors_of(directory)
    named, _ = vectors_of(directory / "onnx/model_O4.onnx")
    np.testing.assert_allclose(named, 2 * whole, rtol=1e-5)


def test_files_may_be_links_as_in_the_cache_of_the_hub(tmp_path: Path) -> None:
    """A snapshot of links to blobs, for the graph, its external tensors and the tokenizer."""
    directory, snapshot = write_model(tmp_path / "blobs", external=True), tmp_path / "snapshots/abc"
    snapshot.mkdir(parents=True)
    for path in directory.iterdir():
        (snapshot / path.name).symlink_to(Path("../../blobs") / path.name)
    found, ids = vectors_of(snapshot)
    np.testing.assert_allclose(found, [states_of(each).mean(axis=0) for each in ids], atol=1e-5)


def test_without_a_stated_length_it_is_512(tmp_path: Path) -> None:
    """max_seq_length counts, then the tokenizer's length; a placeholder for no limit is none."""
    directory = write_model(tmp_path / "mine")
    (directory / "config.json").write_text('{"model_type": "ours"}')
    lengths = []
    for tokenizer, settings in ((1e30, None), (300, None), (300, 700), (None, 700)):
        (directory / "tokenizer_config.json").write_text(json.dumps({"model_max_length": tokenizer}))
        (directory / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": settings}))
        lengths.append(read_custom_model(find_custom_files(directory)).max_text_tokens)
    assert lengths == [512, 300, 700, 700]


@pytest.mark.parametrize(
    ("files", "pooling", "normalised"),
    [
        ({}, "mean", False),
        ({"config.json": {"model_type": "ours", "pooling": "cls"}}, "cls", False),
        ({"1_Pooling/config.json": {"pooling_mode_max_tokens": True}}, "max", False),
        (
            {
                "modules.json": [
                    {"path": "", "type": "sentence_transformers.models.Transformer"},
                    {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
                    {"path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
                ],
                "1_Pooling/config.json": {"pooling_mode_lasttoken": True},
            },
            "lasttoken",
            True,
        ),
    ],
)
def test_pooling_is_told_by_the_files_beside_the_graph(
    tmp_path: Path,
    files: dict[str, Any],
    pooling: str,
    normalised: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """By modules.json, the pooling module, config.json, or assumed, and then the log says so."""
    caplog.set_level(logging.INFO)
    directory = write_model(tmp_path / "mine")
    for name, content in files.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(json.dumps(content))
    found, ids = vectors_of(directory)
    pools: dict[str, Callable[[FloatArray], FloatArray]] = {
        "mean": lambda states: states.mean(axis=0),
        "cls": lambda states: states[0],
        "max": lambda states: states.max(axis=0),
        "lasttoken": lambda states: states[-1],
    }
    pool = pools[pooling]
    expected = np.array([pool(states_of(each)) for each in ids])
    if normalised:
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert ('custom_pooling pooling=mean normalize=false source="none, assumed' in caplog.text) == (not files)


def test_it_is_a_profile_like_any_other(tmp_path: Path) -> None:
    """Listed under an id that changes with the file, pinned by its name, named after its directory."""
    directory = write_model(tmp_path / "mine")
    first = survey(Settings(custom_model=directory))
    write_graph(directory / "model.onnx", table=TABLE + 1)
    second = survey(Settings(custom_model=directory))
    names = [profile.name for profile in first.manifest.profiles]
    assert names == ["custom-cuda-fp32-onnx", "custom-cpu-fp32-onnx"]
    ids = {each.id for seen in (first, second) for each in seen.manifest.profiles}
    assert len(ids) == 4
    listed = run("list-profiles", directory, EMBEDMILL_MODEL_PROFILE="custom-cpu-fp32-onnx")
    assert "MODEL PROFILES of mine" in listed.output
    assert f"Selected profile: {second.manifest.profiles[1].id}" in listed.output


def test_weights_beside_the_tensors_count(tmp_path: Path) -> None:
    """The id is over the tensors in other files too."""
    directory = write_model(tmp_path / "mine", external=True)
    first = survey(Settings(custom_model=directory)).manifest.profiles[1].id
    with (directory / "weights.data").open("r+b") as file:
        file.write(b"\0\0\0\0")
    assert survey(Settings(custom_model=directory)).manifest.profiles[1].id != first


def test_two_answers_to_one_question_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """NIM's name is known; a manifest or a directory beside it would contradict it."""
    monkeypatch.setenv("NIM_CUSTOM_MODEL", str(tmp_path))
    assert read_settings().custom_model == tmp_path
    assert read_settings(model="named").name == "named"
    monkeypatch.setenv("EMBEDMILL_MODEL_DIR", str(tmp_path))
    with pytest.raises(SettingsError, match="CUSTOM_MODEL and EMBEDMILL_MODEL_DIR are both set"):
        read_settings()


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _without_weights(directory: Path) -> None:
    write_graph(directory / "model.onnx", external=True)
    (directory / "weights.data").unlink()


def _with_half_the_weights(directory: Path) -> None:
    write_graph(directory / "model.onnx", external=True)
    _truncate(directory / "weights.data")


def _with_nan(directory: Path) -> None:
    table = np.where(np.arange(8) == 3, np.nan, TABLE).astype(np.float32)
    write_graph(directory / "model.onnx", table=table)


def _with_two_graphs(directory: Path) -> None:
    shutil.copy(directory / "model.onnx", directory / "b.onnx")
    (directory / "model.onnx").rename(directory / "a.onnx")


def _with_a_plan_only(directory: Path) -> None:
    (directory / "model.onnx").unlink()
    (directory / "model.plan").write_bytes(b"ftrt" * 300_000)


def _emptied(directory: Path) -> None:
    for path in directory.iterdir():
        path.unlink()


def _with_pixels(directory: Path) -> None:
    graph = directory / "model.onnx"
    write_graph(graph, names={"ids": "input_ids", "mask": "pixel_values"})
    model = onnx.load(str(graph))
    model.graph.input[1].type.tensor_type.shape.dim.add().dim_value = 3
    onnx.save_model(model, str(graph))


def _with(directory: Path, change: Callable[[Any], object]) -> None:
    graph = directory / "model.onnx"
    model = onnx.load(str(graph))
    change(model)
    onnx.save_model(model, str(graph))


def _with_two_lengths(model: Any) -> None:
    for given, length in zip(model.graph.input, (16, 32), strict=False):
        given.type.tensor_type.shape.dim[1].dim_value = length


def _with_a_foreign_operator(model: Any) -> None:
    model.graph.node[0].domain = "their.operators"
    model.opset_import.append(onnx.helper.make_opsetid("their.operators", 1))


def _with_a_second_embedding(model: Any) -> None:
    first = model.graph.output[0]
    model.graph.node.append(onnx.helper.make_node("Neg", [first.name], ["embeddings"]))
    model.graph.output.add().CopyFrom(first)
    model.graph.output[1].name = "embeddings"


def test_a_variable_chooses_among_two_embeddings(tmp_path: Path) -> None:
    """Without it the graph is refused; its profiles have other ids than the same graph's other output."""
    directory = write_model(tmp_path / "mine", pooled=True, output="text_embeds")
    _with(directory, _with_a_second_embedding)
    refused = run("check", directory)
    assert refused.exit_code == 1
    assert "leave open which one is the embedding: text_embeds float32 [?, 8]; embeddings" in refused.output
    assert "EMBEDMILL_CUSTOM_OUTPUT names one" in refused.output
    found = {}
    for name in ("text_embeds", "embeddings"):
        booted = boot(Settings(custom_model=directory, custom_output=name))
        tokens = booted.tokenizer.encode(["a b"], Truncate.END).tokens
        found[booted.profile.id] = booted.backend.collect(booted.backend.launch(tokens))
        booted.backend.close()
    one, other = found.values()
    np.testing.assert_array_equal(one, -other)


def _with_token_types(directory: Path) -> None:
    tokenizer = json.loads((directory / "tokenizer.json").read_text())
    for part in tokenizer["post_processor"]["single"]:
        if "SpecialToken" in part:
            part["SpecialToken"]["type_id"] = 1
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no tokenizer": (
        lambda at: (at / "tokenizer.json").unlink(),
        "has no tokenizer.json; save the model's tokenizer",
    ),
    "broken tokenizer": (
        lambda at: (at / "tokenizer.json").write_text("{}"),
        "tokenizer.json cannot be read",
    ),
    "config is no JSON": (
        lambda at: (at / "config.json").write_text("{,"),
        "config.json is not valid JSON",
    ),
    "truncated": (lambda at: _truncate(at / "model.onnx"), "model.onnx is not a complete ONNX file"),
    "no bytes": (lambda at: (at / "model.onnx").write_bytes(b""), "is an ONNX file without a graph"),
    "pointer": (
        lambda at: (at / "model.onnx").write_text("version https://git-lfs"),
        "is not a complete ONNX file",
    ),
    "NaN": (_with_nan, "the tensor table of model.onnx contains NaN"),
    "external missing": (_without_weights, "stores its weights in weights.data, which is missing"),
    "external truncated": (_with_half_the_weights, "it is truncated, copy it again"),
    "two graphs": (_with_two_graphs, "has several graphs: a.onnx, b.onnx; name the one to serve"),
    "plan": (_with_a_plan_only, "model.plan is a TensorRT plan of 1.1 MiB that was built elsewhere"),
    "logits": (
        lambda at: write_graph(at / "model.onnx", output="logits"),
        "the outputs of model.onnx are not recognised: logits float32 [?, ?, 8]",
    ),
    "pixels": (
        _with_pixels,
        "the inputs of model.onnx are not recognised: input_ids int64 [?, ?]; pixel_values int64 [?, ?, 3]",
    ),
    "token types": (
        _with_token_types,
        "the model's tokenizer uses token types other than 0, which are not supported",
    ),
    "two fixed lengths": (
        lambda at: _with(at, _with_two_lengths),
        "the inputs of model.onnx have different fixed sizes: input_ids int64 [?, 16]; attention_mask int64",
    ),
    "operator of a plugin": (
        lambda at: _with(at, _with_a_foreign_operator),
        "onnxruntime cannot load model.onnx: ",
    ),
    "opset of the future": (
        lambda at: _with(at, lambda model: setattr(model.opset_import[0], "version", 999)),
        "onnxruntime cannot load model.onnx: ",
    ),
    "fixed without mask": (
        lambda at: write_graph(at / "model.onnx", names={"ids": "input_ids"}, shape=("b", 16)),
        "takes texts of exactly 16 tokens without an attention mask",
    ),
    "empty": (
        _emptied,
        "nor its subfolder onnx has an .onnx graph; it contains nothing",
    ),
    "absent": (shutil.rmtree, "is not a directory; name one that contains a graph and a tokenizer"),
}


@pytest.mark.parametrize("how", DAMAGES)
def test_what_cannot_be_served_ends_in_one_sentence(tmp_path: Path, how: str) -> None:
    """With what was seen, an exit status, and no traceback."""
    directory = write_model(tmp_path / "mine")
    damage, says = DAMAGES[how]
    damage(directory)
    got = run("check", directory)
    lines = [line for line in got.output.splitlines() if line.startswith("error [")]
    assert (len(lines), got.exit_code != 0, "Traceback" in got.output) == (1, True, False), got.output
    assert says in got.output, got.output


@pytest.mark.parametrize("place", ["../secret.data", "/etc/hostname"])
def test_a_graph_reads_nothing_outside_its_directory(tmp_path: Path, place: str) -> None:
    """Tensors may lie beside a graph, not anywhere."""
    directory = write_model(tmp_path / "mine", external=True)
    proto = onnx.load(str(directory / "model.onnx"), load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            entry.value = place if entry.key == "location" else entry.value
    (directory / "model.onnx").write_bytes(proto.SerializeToString())
    assert "outside its directory; such files are not read" in run("check", directory).output


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(300)
def test_a_real_export_gives_the_golden_vectors_of_its_weights(tmp_path: Path) -> None:
    """MiniLM as torch exports it, compared with the safetensors beside it; another graph is refused."""
    import torch
    from transformers import AutoModel

    directory = tmp_path / "mine"
    shutil.copytree(MINILM, directory)

    class States(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy
        def __init__(self) -> None:
            super().__init__()
            self.network = AutoModel.from_pretrained(MINILM, attn_implementation="eager").eval()

        def forward(self, ids: Any, mask: Any, types: Any) -> Any:
            return self.network(input_ids=ids, attention_mask=mask, token_type_ids=types).last_hidden_state

    ids = torch.ones(2, 7, dtype=torch.long)
    axes = {name: {0: "batch", 1: "sequence"} for name in (*NAMES.values(), "last_hidden_state")}
    torch.onnx.export(
        States(),
        (ids, ids, ids * 0),
        str(directory / "model.onnx"),
        input_names=list(NAMES.values()),
        output_names=["last_hidden_state"],
        dynamic_axes=axes,
        dynamo=False,
        opset_version=17,
    )
    booted = boot(Settings(custom_model=directory, verify="always"))
    booted.backend.close()
    assert booted.verified.golden_cosine is not None
    assert booted.verified.golden_cosine > 0.99999
    graph = directory / "model.onnx"
    write_graph(graph)
    got = run("check", directory)
    assert "the vectors have 8 dimensions, the golden vectors 384" in got.output
