"""Writes a look-alike's directory."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.look_alikes.layout import Layout, Module, without
from support.look_alikes.modules import HIDDEN
from support.look_alikes.tokenizers import vocabulary_size, write_tokenizer
from support.model_directory import write


def build(layout: Layout, directory: Path) -> Path:
    """The model's files, with the same random weights each time. Needs torch and transformers."""
    transformer = directory / layout.transformer
    transformer.mkdir(parents=True, exist_ok=True)
    write_tokenizer(layout.tokenizer, transformer)
    if layout.table is not None:
        _write_table(layout, transformer)
    else:
        network(_sized(layout.twin.get("config", layout.config), layout), transformer, gain=layout.gain)
    if layout.config:
        write(transformer, "config.json", _sized(layout.config, layout))
    if layout.modules is not None:
        _write_modules(layout, directory, layout.modules)
    if layout.settings is not None:
        write(transformer, "sentence_bert_config.json", layout.settings)
    if layout.st is not None:
        write(directory, "config_sentence_transformers.json", layout.st)
    for change in layout.changes:
        change(directory)
    return directory


def build_twin(layout: Layout, directory: Path) -> Path:
    """A directory with the same weights that sentence-transformers reads as the model's authors meant it."""
    fields = {"changes": (), **layout.twin}
    return build(replace(layout, twin={}, **fields), directory)


def _sized(config: Any, layout: Layout) -> dict[str, Any]:
    return {"vocab_size": vocabulary_size(layout.tokenizer), **without(config)}


def network(config: dict[str, Any], directory: Path, *, gain: float) -> None:
    """The network that a config.json describes, saved with weights far from their small beginnings."""
    import torch
    import transformers

    if config["model_type"] not in transformers.CONFIG_MAPPING:
        pytest.skip(f"transformers {transformers.__version__} has no {config['model_type']}")
    write(directory, "config.json", {name: each for name, each in config.items() if name != "auto_map"})
    read = transformers.AutoConfig.from_pretrained(directory, local_files_only=True)
    named = getattr(transformers, (config.get("architectures") or [""])[0], None)
    torch.manual_seed(1)
    made = named(read) if named is not None else transformers.AutoModel.from_config(read)
    numbers = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            drawn = torch.randn(parameter.shape, generator=numbers)
            if parameter.ndim >= 2:
                embeds = "embed" in name.lower() or "shared" in name
                parameter.copy_(drawn * gain * (1.0 if embeds else 1.6 / parameter.shape[-1] ** 0.5))
            elif "norm" in name.lower() and name.endswith("weight"):
                parameter.copy_(1 + 0.3 * drawn)
            else:
                parameter.copy_(0.2 * drawn)
    made.float().eval().save_pretrained(directory)


def _write_table(layout: Layout, directory: Path) -> None:
    assert layout.table is not None
    rows = Module(kind="", tensors={layout.table: (vocabulary_size(layout.tokenizer), HIDDEN)})
    _write_tensors(directory / "model.safetensors", rows)


def _write_modules(layout: Layout, directory: Path, modules: tuple[Module, ...]) -> None:
    rows = [_row(0, layout.transformer, layout.first)]
    for index, module in enumerate(modules, start=1):
        folder = f"{index}_{module.kind}"
        (directory / folder).mkdir(exist_ok=True)
        if module.config is not None:
            write(directory, f"{folder}/{module.files}", module.config)
        if module.tensors:
            _write_tensors(directory / folder / "model.safetensors", module)
        rows.append(_row(index, folder, module))
    write(directory, "modules.json", rows)


def _row(index: int, path: str, module: Module) -> dict[str, Any]:
    return {"idx": index, "name": str(index), "path": path, "type": f"{module.package}.{module.kind}"}


def _write_tensors(path: Path, module: Module) -> None:
    import torch
    from safetensors.torch import save_file

    numbers = torch.Generator().manual_seed(9)
    found = {}
    for name, shape in module.tensors.items():
        found[name] = torch.randn(shape, generator=numbers) * (0.2 if len(shape) == 1 else shape[-1] ** -0.5)
    save_file(found, path)


def read_json(directory: Path, name: str) -> Any:
    """The content of a JSON file of the directory."""
    return json.loads((directory / name).read_text())
