"""How a model is loaded: what every backend's loader is given beside the model."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

# Callers that only need the options do not import selection.
if TYPE_CHECKING:
    from worker.engines.plan_file import CachedPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """Options for loading a model; None leaves the choice to the backend, which ignores what it cannot use.

    `device` is "cpu" or "cuda": the first GPU that the process sees. `keep_16bit` names layers that fp8
    leaves in bf16. `plan` is what TensorRT runs; it settles everything else. `cache` is a folder for findings
    that later boots can use.
    """

    device: str = "cpu"
    precision: str = "fp32"
    max_batch_tokens: int | None = None
    num_threads: int | None = None
    keep_16bit: tuple[str, ...] = ()
    plan: "CachedPlan | None" = None
    cache: Path | None = None
