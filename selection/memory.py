"""Estimates the memory of a profile: weights by precision, activations by tokens in a batch, a fixed part.

Errs on the high side, from the model's sizes alone; the worker measures the true budget after loading.
"""

from selection.machine.facts import Facts, Gpu
from selection.manifests.manifest import ModelCard, Profile

GIB = 1024**3
_BUDGET_TOKENS = {"cuda": 16_384, "cpu": 4_096}
_BUDGET_STEP_TOKENS = 256
_WEIGHT_BYTES = {"fp8": 1, "int8": 1, "fp16": 2, "bf16": 2, "fp32": 4}
_ACTIVATION_BYTES = {"fp8": 2, "int8": 4, "fp16": 2, "bf16": 2, "fp32": 4}
#: An unknown precision of a foreign manifest counts as the largest.
_BYTES_ELSE = 4
#: CUDA context, library code and the workspace of matrix multiplications.
_FIXED_BYTES = {"tensorrt": GIB, "onnx": GIB, "torch": 3 * GIB // 2, "transformers": 3 * GIB // 2, "fake": 0}
_FIXED_BYTES_CPU = GIB // 4


def budget_tokens(profile: Profile, model: ModelCard, *, limit: int | None = None) -> int:
    """Tokens of the batch to assume: the user's limit, the profile's or our default; at least one text."""
    budget = limit or profile.max_batch_tokens or _BUDGET_TOKENS[profile.device]
    return max(budget, profile.max_text_tokens or model.max_text_tokens or 0)


def needed_bytes(profile: Profile, model: ModelCard, *, tokens: int) -> int | None:
    """Bytes on the device for batches of `tokens` tokens; None if the model's sizes are unknown."""
    fixed, per_token = _fixed_bytes(profile, model), _bytes_per_token(profile, model)
    return None if fixed is None or per_token is None else fixed + tokens * per_token


def fitting_tokens(profile: Profile, model: ModelCard, *, available_bytes: int) -> int | None:
    """The largest token budget that fits, in steps of 256; None if not even one full-length text does."""
    fixed, per_token = _fixed_bytes(profile, model), _bytes_per_token(profile, model)
    if fixed is None or per_token is None:
        return None
    steps = (available_bytes - fixed) // (per_token * _BUDGET_STEP_TOKENS)
    tokens = steps * _BUDGET_STEP_TOKENS
    least = max(profile.max_text_tokens or model.max_text_tokens or 0, _BUDGET_STEP_TOKENS)
    return tokens if tokens >= least else None


def available_bytes(facts: Facts, *, gpu: Gpu | None) -> int | None:
    """Free bytes of the device; the host's if a GPU has no dedicated memory or does not report it."""
    if gpu is None or gpu.memory_total_bytes is None:
        return facts.memory_available_bytes
    return gpu.memory_total_bytes if gpu.memory_free_bytes is None else gpu.memory_free_bytes


def _fixed_bytes(profile: Profile, model: ModelCard) -> int | None:
    if model.num_parameters is None:
        return None
    # Embedding tables are looked up, not multiplied: 8-bit precisions keep them in 16 bit.
    table = (model.vocabulary or 0) * (model.hidden or 0)
    size = _WEIGHT_BYTES.get(profile.precision, _BYTES_ELSE)
    weights = (model.num_parameters - table) * size + table * max(size, 2)
    return weights + (_FIXED_BYTES_CPU if profile.device == "cpu" else _FIXED_BYTES[profile.backend])


def _bytes_per_token(profile: Profile, model: ModelCard) -> int | None:
    if model.hidden is None:
        return None
    size = _ACTIVATION_BYTES.get(profile.precision, _BYTES_ELSE)
    # Live at the peak: residual, its normalised copy, Q, K, V, attention's output, two of the wide layer.
    live = 6 * model.hidden + 2 * (model.intermediate or 4 * model.hidden)
    # Without fused attention the scores are materialized: a row of the longest text for each head.
    scores = (model.heads or 0) * (profile.max_text_tokens or model.max_text_tokens or 0)
    return size * (live + (scores if profile.backend in ("onnx", "transformers") else 0))
