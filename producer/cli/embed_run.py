"""One run of `producer embed` into a single file."""

import os
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import click
from rich.console import Console

from producer.bulk import Summary, embed_file
from producer.cli.embed_arguments import Arguments
from producer.cli.embed_queue import Connect, on_queue
from producer.cli.progress import ProgressDisplay
from producer.errors import FileError
from producer.files import Output, Source, open_reader
from producer.files.made_from import is_made_from
from producer.locations import STDIN


def run_embed(arguments: Arguments, source: Source, connect: Connect) -> tuple[Summary, Output] | None:
    """Embed the input into the output; report on stderr what the user should know meanwhile.

    None if the output is there already, of the same input with the same options.

    Raises our errors, and Interrupted on a signal; what is done by then is kept, so that the same command
    resumes.
    """
    options, target, identity = arguments.options, Path(arguments.output), _identity(arguments, source)
    if not arguments.overwrite and is_made_from(target, arguments.output_format, identity):
        return None
    with ExitStack() as stack:
        reader = stack.enter_context(
            open_reader(source, arguments.format, columns=arguments.columns, dialect=arguments.dialect)
        )
        for note in () if arguments.quiet else reader.notes:
            click.echo(note, err=True)
        _refuse_to_replace_input(source.location, target)
        output = Output(
            target,
            arguments.output_format,
            id_type=reader.id_type,
            options=options,
            identity=identity,
            restart=arguments.restart,
            overwrite=arguments.overwrite,
            kept_schema=reader.kept_schema,
        )
        stack.callback(_report_kept, output)
        stack.enter_context(output)
        _report_start(arguments, output)
        display = stack.enter_context(ProgressDisplay(Console(stderr=True), quiet=arguments.quiet))
        work = partial(
            embed_file,
            reader=reader,
            output=output,
            options=options,
            batch_texts=arguments.batch_texts,
            max_in_flight=arguments.max_in_flight,
            on_progress=display.update,
        )
        return on_queue(work, arguments, connect), output


def _identity(arguments: Arguments, source: Source) -> dict[str, str | int | None] | None:
    """What determines the rows, under human-readable names; None if the input cannot be read twice."""
    if source.location == STDIN:
        return None
    is_local = os.path.exists(source.location)
    return {
        "input": os.path.realpath(source.location) if is_local else source.location,
        "version of the input": source.etag_or_mtime,
        "--format": arguments.format,
        "--text-column": arguments.text_column,
        "--template": arguments.template,
        "--id-column": arguments.id_column,
        "--keep-columns": arguments.keep_columns,
        "--delimiter": arguments.delimiter,
        "--quote": arguments.quote,
        "--encoding": arguments.encoding,
        "--output-format": arguments.output_format,
        "--model": arguments.model,
        "--input-type": arguments.input_type,
        "--prompt-name": arguments.prompt_name,
        "--truncate": arguments.truncate,
        "--dimensions": arguments.dimensions,
        "--embedding-type": arguments.embedding_type,
    }


def _report_start(arguments: Arguments, output: Output) -> None:
    if output.unusable:
        click.echo(f"starting over: {output.unusable}", err=True)
    if arguments.quiet:
        return
    if output.earlier.num_texts:
        click.echo(f"resuming after the {output.earlier.num_texts:,} rows of an interrupted run", err=True)
    if arguments.run is not None:
        click.echo(f"run {arguments.run}", err=True)


def _report_kept(output: Output) -> None:
    if output.num_kept:
        click.echo(
            f"{output.num_kept:,} rows are kept beside {output.path}; run the same command to resume",
            err=True,
        )


def _refuse_to_replace_input(source: str, target: Path) -> None:
    if target.exists() and Path(source).exists() and target.samefile(source):
        raise FileError(f"{target}: is also the input; choose another output path")
