"""Compose files and Dockerfiles: valid, consistent with each other, and naming only what the code has."""

import importlib
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
import redis
import yaml
from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from support.paths import ROOT

from worker.settings import Settings

BASE = "compose.yaml"
CPU = "deploy/compose.cpu.yaml"
GPUS = "deploy/compose.gpus.yaml"
MONITORING = "deploy/compose.monitoring.yaml"
DOCKERFILES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "deploy").glob("Dockerfile.*"))
SCHEMA = json.loads((ROOT / "tests/data/compose_spec/compose-spec.json").read_text())
# Of 2024, newer than the state that we keep: a file that need not exist.
SCHEMA["definitions"]["service"]["properties"]["env_file"] = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"path": {"type": "string"}, "required": {"type": "boolean"}},
        "required": ["path"],
        "additionalProperties": False,
    },
}
RESET = object()


class ComposeLoader(yaml.SafeLoader):
    """YAML as Compose reads it: `!reset` takes a key of the file below away."""


ComposeLoader.add_constructor("!reset", lambda loader, node: RESET)


def load(*names: str) -> dict[str, Any]:
    """The Compose files laid over each other, variables at their defaults."""
    merged: Any = {}
    for name in names:
        text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (ROOT / name).read_text())
        merged = laid_over(merged, yaml.load(text, ComposeLoader))
    return dict(merged)


def laid_over(below: Any, above: Any) -> Any:
    if not isinstance(below, Mapping) or not isinstance(above, Mapping):
        return above
    merged = {key: laid_over(below.get(key), above.get(key, below.get(key))) for key in {**below, **above}}
    return {key: value for key, value in merged.items() if value is not RESET}


def without(service: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in service.items() if key not in keys}


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """(instruction, arguments) of every line, continuation lines joined."""
    text = (ROOT / dockerfile).read_text().replace("\\\n", "")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


def spellings(field: FieldInfo) -> list[str]:
    """The environment variables that set a field."""
    assert isinstance(field.validation_alias, AliasChoices)
    return [str(choice) for choice in field.validation_alias.choices]


@pytest.mark.parametrize(
    "names",
    [(BASE,), (BASE, CPU), (BASE, GPUS), (BASE, MONITORING)],
    ids=["gpu", "cpu", "gpus", "monitoring"],
)
def test_compose_files_follow_the_specification(names: tuple[str, ...]) -> None:
    """Every way to start it is valid by the Compose Specification's own schema."""
    jsonschema.Draft201909Validator(SCHEMA).validate(load(*names))


def test_the_schema_refuses_a_misspelled_key() -> None:
    """The check above can fail."""
    composed = load(BASE)
    composed["services"]["worker"]["enviroment"] = {}
    with pytest.raises(jsonschema.ValidationError, match="enviroment"):
        jsonschema.Draft201909Validator(SCHEMA).validate(composed)


def test_no_service_hides_behind_a_compose_profile() -> None:
    """The word profile is ours: the Compose key of that name is not used."""
    for service in load(BASE, GPUS, MONITORING)["services"].values():
        assert "profiles" not in service


def test_a_worker_gets_one_gpu() -> None:
    """The default worker reserves exactly one NVIDIA GPU."""
    devices = load(BASE)["services"]["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]


def test_the_cpu_file_changes_the_image_and_drops_the_gpu() -> None:
    """On a laptop the worker is the same but for its image and the GPU."""
    worker, on_cpu = load(BASE)["services"]["worker"], load(BASE, CPU)["services"]["worker"]
    assert "deploy" not in on_cpu
    assert on_cpu["build"]["dockerfile"] == "deploy/Dockerfile.cpu"
    assert without(on_cpu, "image", "build") == without(worker, "image", "build", "deploy")


def test_every_further_gpu_has_a_worker_like_the_first() -> None:
    """The workers of the other GPUs differ from the first in nothing but their GPU, each has its own."""
    services = load(BASE, GPUS)["services"]
    first = services.pop("worker")
    others = {name: service for name, service in services.items() if name.startswith("worker-")}
    assert [without(service, "deploy") for service in others.values()] == [without(first, "deploy")] * 7
    for name, service in others.items():
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device["device_ids"] == [name.removeprefix("worker-")]


def test_what_is_probed_and_scraped_is_served() -> None:
    """The images open one port: the health check asks it, Prometheus scrapes it on every worker."""
    ports = {re.search(r"EMBEDMILL_METRICS_PORT=(\d+)", (ROOT / name).read_text()) for name in DOCKERFILES}
    (port,) = {match[1] for match in ports if match}
    services = load(BASE, GPUS)["services"]
    workers = {name: service for name, service in services.items() if name.startswith("worker")}
    for worker in workers.values():
        assert f"http://localhost:{port}/health/ready" in worker["healthcheck"]["test"][-1]
        assert worker["environment"]["EMBEDMILL_METRICS_HOST"] == "0.0.0.0"  # else no other container sees it
        assert "ports" not in worker
    [job] = yaml.safe_load((ROOT / "deploy/prometheus.yaml").read_text())["scrape_configs"]
    [found] = job["dns_sd_configs"]
    assert (str(found["port"]), set(found["names"])) == (port, set(workers))
    assert "metrics_path" not in job


def test_monitoring_mounts_what_is_there() -> None:
    """Every file laid into Prometheus and Grafana exists, and the dashboard is where its provider looks."""
    services = load(MONITORING)["services"]
    mounts = [each.split(":") for one in services.values() for each in one["volumes"] if each.startswith(".")]
    assert [path for path, *_ in mounts if not (ROOT / path).is_file()] == []
    [provider] = yaml.safe_load((ROOT / "deploy/grafana/provider.yaml").read_text())["providers"]
    [dashboard] = [inside for path, inside, _ in mounts if path.endswith(".json")]
    assert Path(dashboard).parent == Path(provider["options"]["path"])
    [source] = yaml.safe_load((ROOT / "deploy/grafana/datasource.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"


def test_up_starts_no_producer() -> None:
    """The one-shot producer waits for `docker compose run`."""
    assert load(BASE)["services"]["producer"]["deploy"] == {"replicas": 0}


def test_docker_waits_longer_than_the_worker_does() -> None:
    """A stopping worker may use the whole of its own grace before Docker kills it."""
    grace = load(BASE)["services"]["worker"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > Settings.model_fields["grace_s"].default


def test_what_is_built_exists() -> None:
    """Every build names a Dockerfile of ours, and every Dockerfile is named."""
    services = load(BASE, GPUS)["services"].values()
    builds = [service["build"] for service in services if "build" in service]
    builds += [load(BASE, CPU)["services"]["worker"]["build"]]
    assert {build["context"] for build in builds} == {"."}
    assert {build["dockerfile"] for build in builds} == set(DOCKERFILES)


def test_installed_extras_exist() -> None:
    """The extras that Dockerfiles and Compose install are those of pyproject.toml."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    texts = [(ROOT / name).read_text() for name in (BASE, *DOCKERFILES)]
    lists = [one for text in texts for one in re.findall(r'EXTRA(?:=|: )([\w,]+)|"\.\[([\w,]+)\]"', text)]
    named = {name for pair in lists for some in pair if some for name in some.split(",")}
    assert named == {"cpu", "fast", "files", "torch"}
    assert named <= set(extras)


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_dockerfiles_are_clean(dockerfile: str) -> None:
    """hadolint finds nothing, not even a matter of style."""
    hadolint = Path(sys.executable).parent / "hadolint"
    found = subprocess.run(
        [hadolint, "--no-color", dockerfile], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout) == (0, "")


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_images_are_pinned_and_run_without_root(dockerfile: str) -> None:
    """Base images carry a version, the last stage runs `worker run` as a numbered user that is not root."""
    steps = instructions(dockerfile)
    images = [arguments.split()[0] for name, arguments in steps if name == "FROM"]
    assert all(re.search(r":\d+\.\d+", image) for image in images)
    assert int([arguments for name, arguments in steps if name == "USER"][-1]) > 0
    assert steps[-1] == ("CMD", '["worker", "run"]')


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_the_model_cache_is_the_mounted_volume(dockerfile: str) -> None:
    """Where the image keeps models is where Compose mounts the volume."""
    named = load(BASE)["volumes"]
    mounts = [each.split(":") for each in load(BASE)["services"]["worker"]["volumes"]]
    (inside,) = (inside for outside, inside, *_ in mounts if outside in named)
    assert f"EMBEDMILL_CACHE_PATH={inside}" in (ROOT / dockerfile).read_text()


@pytest.mark.parametrize(("service", "inside"), [("producer", "/data"), ("worker", "/models")])
def test_folders_that_compose_mounts_are_there_and_empty(service: str, inside: str) -> None:
    """Docker would make a missing one for root; what people put there is no part of the project."""
    mounts = [each.split(":") for each in load(BASE)["services"][service]["volumes"]]
    (folder,) = (outside for outside, at, *_ in mounts if at == inside)
    listed = ["git", "ls-files", "--others", "--cached", "--exclude-standard", folder]
    found = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert found == [f"{folder.removeprefix('./')}/.gitignore"]


@pytest.mark.parametrize("names", [(BASE,), (BASE, CPU), (BASE, GPUS)], ids=["gpu", "cpu", "gpus"])
def test_a_worker_takes_every_setting_from_a_file(names: tuple[str, ...]) -> None:
    """Which need not exist and is no part of the project; two addresses are set beside it."""
    services = load(*names)["services"]
    for worker in (one for name, one in services.items() if name.startswith("worker")):
        assert worker["env_file"] == [{"path": "worker.env", "required": False}]
        assert list(worker["environment"]) == ["EMBEDMILL_REDIS_URL", "EMBEDMILL_METRICS_HOST"]
    assert "/worker.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_logs_are_rotated() -> None:
    """Of every service: Docker's default keeps all that was ever written."""
    for name, service in load(BASE, GPUS, MONITORING)["services"].items():
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "5"}, name


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_a_change_of_the_sources_installs_no_dependency_again(dockerfile: str) -> None:
    """They are installed before the sources are copied, at the versions of the constraints file."""
    steps = [f"{name} {arguments}" for name, arguments in instructions(dockerfile)]
    copied = next(at for at, step in enumerate(steps) if step == "COPY . .")
    installs = {at: step for at, step in enumerate(steps) if "pip install" in step}
    assert ["--constraint constraints.txt" in installs[at] for at in installs if at < copied] == [True]
    assert ["--no-deps" in installs[at] for at in installs if at > copied] == [True]


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_images_do_not_report(dockerfile: str) -> None:
    """Not even what is run in them besides the worker."""
    words = (ROOT / dockerfile).read_text().split()
    assert {"ORT_DISABLE_TELEMETRY=1", "HF_HUB_DISABLE_TELEMETRY=1"} <= set(words)


def test_environment_variables_exist() -> None:
    """Every EMBEDMILL_ variable given to a container is one that the worker or the producer reads."""
    texts = [(ROOT / name).read_text() for name in (BASE, CPU, GPUS, MONITORING, *DOCKERFILES)]
    named = {match for text in texts for match in re.findall(r"EMBEDMILL_\w+", text)}
    assert named <= {name for field in Settings.model_fields.values() for name in spellings(field)}


@pytest.mark.parametrize(("program", "command"), [("worker", "run"), ("producer", "embed")])
def test_commands_exist(program: str, command: str) -> None:
    """What Compose and its comments run are commands of ours."""
    main = importlib.import_module(f"{program}.cli.main").main
    assert command in main.list_commands(click.Context(main))


@pytest.fixture
def valkey(program: str, tmp_path: Path) -> Iterator[redis.Redis]:
    """A real server, started with the arguments in compose.yaml."""
    socket = tmp_path / "valkey.sock"
    command = [
        program,
        *load(BASE)["services"]["valkey"]["command"][1:],
        *("--port", "0", "--unixsocket", str(socket), "--dir", str(tmp_path)),
    ]
    until_it_listens = Retry(ConstantBackoff(0.05), 200, supported_errors=(OSError,))
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        with redis.Redis(
            unix_socket_path=str(socket), decode_responses=True, retry=until_it_listens
        ) as client:
            yield client
        server.terminate()


def test_valkey_keeps_jobs_and_never_drops_one(valkey: redis.Redis) -> None:
    """A real server takes the options: append-only file synced every second, no eviction, no snapshots."""
    names = ("appendonly", "appendfsync", "maxmemory", "maxmemory-policy", "save", "protected-mode")
    options: dict[str, str] = {}
    for name in names:
        reply: Any = valkey.config_get(name)
        options[name] = reply[name]
    assert options == {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory": str(2 * 1024**3),
        "maxmemory-policy": "noeviction",
        "save": "",
        "protected-mode": "no",
    }
