"""`worker run-one`: runs one worker process; only the supervisor starts it."""

import asyncio
import os

import click

from worker.cli.entry import settings_from
from worker.supervisor.cpu_affinity import pin_to_local_cpus
from worker.telemetry.channel import ChildEnd


@click.command("run-one", hidden=True)
@click.option("--owner", required=True)
def run_one_command(owner: str) -> None:
    """Select, load and verify a profile, then serve jobs until stopped."""
    settings = settings_from({}, warns=False)  # the supervisor has warned
    if gpu_uuid := os.environ.get("CUDA_VISIBLE_DEVICES", ""):
        pin_to_local_cpus(gpu_uuid)  # before a library starts threads
    channel = ChildEnd(settings.grace_s)
    from producer.contract import Keys, queue_name
    from producer.errors import EmbedmillError
    from worker.consumer.starting import announced
    from worker.serving.app import serve
    from worker.startup.boot import boot

    with announced(settings.redis_url, Keys(queue_name(settings.name), settings.prefix), owner):
        try:
            booted = boot(settings, waits_for_hub=True)
        except EmbedmillError as error:
            channel.announce_failure(f"{error.code}: {error}")
            raise
    asyncio.run(serve(settings, booted, owner=owner, on_ready=channel.announce_ready))
