"""The bounds on computed vectors: sound networks of every depth serve in each format, spoiled do not."""

from dataclasses import replace

import numpy as np
import pytest

pytestmark = [pytest.mark.peers, pytest.mark.timeout(300)]
pytest.importorskip("torch")

from benchmarks.quality.bounds import Case, random_case, spoiled_cases  # noqa: E402
from producer.errors import BackendError  # noqa: E402
from selection.bounds import rounding_bounds  # noqa: E402
from worker.backends.token_batches import take  # noqa: E402
from worker.contract import FloatArray  # noqa: E402
from worker.startup.verification import Verified  # noqa: E402


def check(found: Verified, case: Case, precision: str) -> None:
    """As a boot does."""
    bounds = rounding_bounds(precision, layers=case.model.architecture.layers)
    found.check_batch(bounds)
    found.check_golden(bounds)


DEPTHS = [("minilm", 6), ("bert-large", 24), ("qwen3-0.6b", 28), ("qwen3-0.6b", 36)]


@pytest.fixture(scope="module", params=DEPTHS)
def known(request: pytest.FixtureRequest) -> tuple[Case, FloatArray]:
    """A narrow network of that depth, and its vectors in fp32."""
    name, layers = request.param
    case = random_case(name, "cpu", hidden=128, layers=layers)
    case = replace(case, tokens=take(case.tokens, np.array([2, 5, 9, 13, 16, 18])))
    return case, case.vectors("cpu")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_sound_networks_serve(known: tuple[Case, FloatArray], precision: str) -> None:
    """In every format that a network with random weights bears."""
    case, golden = known
    check(case.compared("cpu", precision, golden), case, precision)


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp8"])
def test_weights_that_are_no_numbers_do_not_serve(known: tuple[Case, FloatArray], precision: str) -> None:
    """A single one, halfway down."""
    case, golden = known
    name = f"layers.{case.model.architecture.layers // 2}.down.weight"
    damaged = np.array(case.weights[name])
    damaged[3, 3] = np.nan
    spoiled = replace(case, weights={**case.weights, name: damaged})
    with pytest.raises(BackendError, match="not finite"):
        spoiled.compared("cpu", precision, golden)


def test_a_shallow_network_bears_fp8_too() -> None:
    """And is refused in it when spoiled."""
    case = random_case("minilm", "cpu", hidden=128)
    golden = case.vectors("cpu")
    check(case.compared("cpu", "fp8", golden), case, "fp8")
    for _, spoiled in spoiled_cases(case):
        found = spoiled.compared("cpu", "fp8", golden)
        with pytest.raises(BackendError, match="to the golden vectors the"):
            check(found, case, "fp8")


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_spoiled_networks_do_not(known: tuple[Case, FloatArray], precision: str) -> None:
    """Two layers in each other's place, in the middle and at the end, and another pooling."""
    case, golden = known
    for _, spoiled in spoiled_cases(case):
        found = spoiled.compared("cpu", precision, golden)
        with pytest.raises(BackendError, match="to the golden vectors the"):
            check(found, case, precision)
