"""The worker's settings, read from the environment into one frozen object; contradictions are refused."""

import os
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import AliasChoices, Field, PrivateAttr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from producer.contract import DEFAULT_PREFIX
from producer.errors import SettingsError


def _named(field: str, *nim: str) -> AliasChoices:
    return AliasChoices(f"EMBEDMILL_{field.upper()}", *nim)


def _model_name(known: dict[str, Any]) -> str:
    """The default model, or a custom model's name: that of its directory."""
    custom: Path | None = known.get("custom_model")
    if custom is None:
        return "all-MiniLM-L6-v2"
    place = custom.resolve()
    folder = place.parent if place.is_file() else place
    return folder.parent.name if folder.name == "onnx" else folder.name


class Settings(BaseSettings):
    """The settings of a worker; each field is read from `EMBEDMILL_<FIELD>` or the NIM name beside it."""

    model_config = SettingsConfigDict(
        frozen=True, populate_by_name=True, extra="forbid", hide_input_in_errors=True
    )

    # Before `model`, whose default is made from it.
    custom_model: Path | None = Field(
        default=None,
        validation_alias=_named("custom_model", "NIM_CUSTOM_MODEL"),
        description=("your own model: a directory with an ONNX graph and a tokenizer, or the graph in it"),
    )
    custom_output: str | None = Field(
        default=None,
        min_length=1,
        validation_alias=_named("custom_output"),
        description="the output of that graph to use, if it has several that could be the embedding",
    )
    model: str = Field(
        default_factory=_model_name,
        validation_alias=_named("model"),
        description=(
            "model to serve: a name with a manifest, `org/name` on the Hugging Face hub, or a directory"
        ),
    )
    model_dir: Path | None = Field(
        default=None,
        validation_alias=_named("model_dir"),
        description="directory to read the model's files from, whatever the model's name",
    )
    served_model_name: str | None = Field(
        default=None,
        validation_alias=_named("served_model_name", "NIM_SERVED_MODEL_NAME"),
        description="name that producers use, if not the model's own",
    )
    redis_url: str = Field(
        default="redis://localhost:6379",
        validation_alias=_named("redis_url"),
        repr=False,
        description="server and credentials; the forms are in [connections](connections.md)",
    )
    prefix: str = Field(
        default=DEFAULT_PREFIX,
        min_length=1,
        validation_alias=_named("prefix"),
        description="prefix of all keys; producers must use the same",
    )

    model_profile: str = Field(
        default="",
        validation_alias=_named("model_profile", "NIM_MODEL_PROFILE"),
        description=(
            "profile to pin: its id, its name or `id (name)`; empty, `auto` and `default` choose "
            "automatically"
        ),
    )
    tags_selector: str = Field(
        default="",
        validation_alias=_named("tags_selector", "NIM_TAGS_SELECTOR"),
        description="choose only among profiles with these tags: `precision=fp16,backend=onnx`",
    )
    policy: Literal["rules", "measured"] = Field(
        default="rules",
        validation_alias=_named("policy", "EMBEDMILL_SELECTION_POLICY"),
        description=(
            "`rules`, or `measured`: the profile that is fastest on this machine, measured at boot if "
            "no measurement is stored"
        ),
    )
    build_engines: Literal["never", "missing"] = Field(
        default="never",
        validation_alias=_named("build_engines"),
        description=(
            "`missing` builds a TensorRT plan at boot if the best profile lacks one, which takes minutes"
        ),
    )
    mean_tokens: int = Field(
        default=177,
        ge=1,
        validation_alias=_named("mean_tokens"),
        description="mean length in tokens of the texts that profiles are measured with",
    )
    lengths: Path | None = Field(
        default=None,
        validation_alias=_named("lengths"),
        description="file of text lengths in tokens, one per line, to measure with instead",
    )
    verify: Literal["always", "cached", "shipped"] = Field(
        default="cached",
        validation_alias=_named("verify"),
        description=(
            "`always` compares with the golden vectors at every boot; `cached` does so once under the "
            "same conditions; `shipped` too, but computes none for a model that has none, which boots large "
            "models faster and proves less"
        ),
    )
    manifest_path: Path | None = Field(
        default=None,
        validation_alias=_named("manifest_path", "NIM_MANIFEST_PATH"),
        description="manifest file, ours or NIM's",
    )
    manifest_allow_unsafe: bool = Field(
        default=False,
        validation_alias=_named("manifest_allow_unsafe", "NIM_MANIFEST_ALLOW_UNSAFE"),
        description="run a pinned profile even if it is incompatible",
    )
    cpu_only: bool = Field(
        default=False,
        validation_alias=_named("cpu_only", "NIM_CPU_ONLY"),
        description="ignore GPUs",
    )
    cache_path: Path = Field(
        default=Path("~/.cache/embedmill"),
        validation_alias=_named("cache_path", "NIM_CACHE_PATH"),
        description="where models, golden vectors, verification records, measurements and plans are kept",
    )
    offline: bool = Field(
        default=False,
        validation_alias=_named("offline", "HF_HUB_OFFLINE"),
        description="never use the network",
    )

    max_batch_tokens: int | None = Field(
        default=None,
        ge=1,
        validation_alias=_named("max_batch_tokens"),
        description="token budget of a batch; default: the profile's",
    )
    max_batch_s: float | None = Field(
        default=None,
        ge=0,
        validation_alias=_named("max_batch_s"),
        description=(
            "seconds that a batch should take at most, which bounds how long small jobs wait; 0 is no bound; "
            "default: 0.25 on a CPU, none on a GPU"
        ),
    )
    num_threads: int | None = Field(
        default=None,
        ge=1,
        validation_alias=_named("num_threads"),
        description="CPU threads for computing; default: as many as the process may use",
    )
    workers_per_gpu: int | None = Field(
        default=None,
        ge=1,
        le=8,
        validation_alias=_named("workers_per_gpu"),
        description=(
            "worker processes on each GPU; `auto` is two for small models (MiniLM) on an H100, H200 or "
            "B200 with four cores or more for each, else one"
        ),
    )
    max_jobs: int = Field(
        default=64,
        ge=2,
        validation_alias=_named("max_jobs"),
        description="maximum number of jobs held at once",
    )
    max_tries: int = Field(
        default=3,
        ge=1,
        validation_alias=_named("max_tries"),
        description=(
            "tries that may end with a transient error before a job is given up; deaths of workers are "
            "counted separately"
        ),
    )
    vector_cache: str = Field(
        default="off",
        min_length=1,
        validation_alias=_named("vector_cache"),
        description=(
            "cache of vectors for texts seen before: `off`, `redis` (the queue's server) or a directory"
        ),
    )
    vector_cache_mb: int = Field(
        default=1024,
        ge=1,
        validation_alias=_named("vector_cache_mb"),
        description="size limit of that cache, per model",
    )
    lease_s: float = Field(
        default=2.5,
        ge=0.3,
        validation_alias=_named("lease_s"),
        description="how long a silent worker keeps its jobs",
    )
    hang_s: float = Field(
        default=30.0,
        ge=0.5,
        validation_alias=_named("hang_s"),
        description=(
            "least time without progress after which a stage counts as hung and the process ends with status "
            "6; a batch gets 20 times its expected time if that is longer"
        ),
    )
    grace_s: float = Field(
        default=20.0,
        ge=1,
        validation_alias=_named("grace_s"),
        description="how long running jobs may take after SIGTERM",
    )

    metrics_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        validation_alias=_named("metrics_port", "NIM_HTTP_API_PORT"),
        description=(
            "HTTP port for metrics and health, one per host; by default none is opened; the images set 8000"
        ),
    )
    metrics_host: str = Field(
        default="127.0.0.1",
        validation_alias=_named("metrics_host"),
        description=(
            "address to serve metrics and health on; by default only this machine can reach them; in a "
            "container set `0.0.0.0`"
        ),
    )

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field(
        default="INFO",
        validation_alias=_named("log_level", "NIM_LOG_LEVEL"),
        description="`DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`",
    )
    jsonl_logging: bool = Field(
        default=False,
        validation_alias=_named("jsonl_logging", "NIM_JSONL_LOGGING", "NIM_LOGGING_JSONL"),
        description="write each log event as one JSON object per line",
    )

    _pinned_by_option: bool = PrivateAttr(default=False)

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("metrics_port", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("workers_per_gpu", mode="before")
    @classmethod
    def _auto_is_none(cls, value: object) -> object:
        return None if value in ("", "auto") else value

    @field_validator("cache_path", "custom_model", "model_dir", "manifest_path", "lengths", mode="after")
    @classmethod
    def _expand(cls, value: Path | None) -> Path | None:
        return value.expanduser() if value is not None else None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.model_profile and self.tags_selector:
            raise ValueError(
                "EMBEDMILL_MODEL_PROFILE and EMBEDMILL_TAGS_SELECTOR are both set; "
                "only one of them can pin a profile, unset the other"
            )
        others = {"MODEL_DIR": self.model_dir, "MANIFEST_PATH": self.manifest_path}
        for name, value in others.items():
            if self.custom_model is not None and value is not None:
                raise ValueError(
                    f"EMBEDMILL_CUSTOM_MODEL and EMBEDMILL_{name} are both set; a custom model has its own "
                    "directory and profiles, unset one of them"
                )
        return self

    @property
    def name(self) -> str:
        """The model name that producers use, from which the queue's name is made."""
        return self.served_model_name or self.model

    @property
    def plans_path(self) -> Path:
        """The cache's folder of TensorRT plans, which `selection.machine.probe` reads too."""
        return self.cache_path / "plans"

    @property
    def profile_source(self) -> str:
        """The option or variable that pinned the profile, for error messages."""
        if self._pinned_by_option:
            return "--profile"
        ours = "EMBEDMILL_MODEL_PROFILE"
        return f"Environment variable {ours if ours in os.environ else 'NIM_MODEL_PROFILE'}"


def read_settings(**overrides: object) -> Settings:
    """Settings from the environment; overrides that are not None take precedence.

    Raises SettingsError, which names each invalid setting.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        settings = Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        lines = [f"{_where(item['loc'])}: {item['msg']}" for item in error.errors()]
        raise SettingsError("; ".join(lines)) from error
    settings._pinned_by_option = "model_profile" in given
    return settings


def _where(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "settings"
