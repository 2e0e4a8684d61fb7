"""The options with which a backend loads a model."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

# Not at run time, so that importing the options does not import selection.
if TYPE_CHECKING:
    from worker.engines.plan_file import CachedPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """Options for loading a model; None means the backend's default. Backends ignore options they do not use.

    `device` is "cpu" or "cuda", the first GPU visible to the process. `keep_16bit` names layers that stay in
    bf16 with fp8. `plan` is the plan that TensorRT runs; it overrides all other options. `cache` is a folder
    for autotuning results, which later starts reuse.
    """

    device: str = "cpu"
    precision: str = "fp32"
    max_batch_tokens: int | None = None
    num_threads: int | None = None
    keep_16bit: tuple[str, ...] = ()
    plan: "CachedPlan | None" = None
    cache: Path | None = None
