"""`worker convert`: turns a model's pickled weights into safetensors."""

from pathlib import Path

import click

from worker.cli.entry import settings_from


@click.command("convert")
@click.argument("model")
@click.argument("out", type=click.Path(path_type=Path))
def convert_command(model: str, out: Path) -> None:
    """Convert pickled weights into safetensors.

    Writes a new directory OUT, which a worker serves, from a model with pytorch_model.bin: MODEL is a
    directory or a name on the hub. A pickle can run code when it is read, so that no worker opens one. Here
    it is read once, by PyTorch restricted to tensors, in a process without a network. The file
    conversion.json in OUT has the hashes of what was read and written. Needs PyTorch.
    """
    settings = settings_from({})
    from worker.cache.convert import convert

    click.echo(convert(model, out, settings))
