"""Ends a worker that hangs: its jobs go back at once, and nothing waits for what does not move."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from producer.contract import Keys
from producer.errors import EmbedmillError
from producer.transport.connect import connect
from producer.transport.retry import OutageBudget
from worker.consumer.consumer import Consumer
from worker.consumer.handback import hand_back
from worker.consumer.heartbeat import Heartbeat
from worker.consumer.leases import Claim, Leases
from worker.settings import Settings
from worker.supervisor.process import HUNG_STATUS
from worker.telemetry.activity import Hang

log = structlog.stdlib.get_logger(__name__)

# Probes, `worker top` and metrics get to see it for a tenth of the time it took to notice.
_SHOWN, _MAX_SHOWN_S = 0.1, 5.0
_HAND_BACK_S = 5.0
_END_S = 10.0  # whatever else hangs


class HangExit:
    """What is done in the watchdog's thread about a hang; `end` ends the process with a status, at once."""

    def __init__(
        self,
        settings: Settings,
        keys: Keys,
        owner: str,
        consumer: Consumer,
        *,
        heartbeat: Heartbeat,
        end: Callable[[int], None],
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._owner = owner
        self._consumer = consumer
        self._heartbeat = heartbeat
        self._end = end

    def __call__(self, hang: Hang) -> None:
        """Hand every job back and end the process, after ten seconds at the latest.

        The suspects go back as after a death of the worker, all others as if they had not been claimed.
        """
        last_resort = threading.Timer(_END_S, self._end, (HUNG_STATUS,))
        last_resort.daemon = True
        last_resort.start()
        shown_s = min(_MAX_SHOWN_S, max(_SHOWN * self._settings.hang_s, self._settings.lease_s))
        until_s = time.monotonic() + shown_s
        try:
            self._consumer.stop_claiming()
            held = self._heartbeat.held
            log.error(
                "worker_hung",
                stage=str(hang.stage),
                seconds=round(hang.seconds, 1),
                jobs=len(held),
                suspects="all" if hang.suspects is None else ",".join(sorted(hang.suspects)),
                status=HUNG_STATUS,
            )
            self._give_back(hang, held)
            time.sleep(max(0.0, until_s - time.monotonic()))
        finally:
            last_resort.cancel()
            self._end(HUNG_STATUS)

    def _give_back(self, hang: Hang, held: Sequence[Claim]) -> None:
        try:
            num_suspects = asyncio.run(self._hand_back(hang, held))
        except (RedisError, OSError, TimeoutError, EmbedmillError) as error:
            # The parent tries again; without one the leases expire, as they are not renewed.
            log.warning("hand_back_failed", name=self._owner, error=str(error))
        else:
            log.warning("jobs_handed_back", name=self._owner, jobs=len(held), suspects=num_suspects)

    async def _hand_back(self, hang: Hang, held: Sequence[Claim]) -> int:
        """Returns how many jobs went back as suspects."""
        budget = OutageBudget(_HAND_BACK_S)
        async with (
            asyncio.timeout(_HAND_BACK_S),
            connect(self._settings.redis_url, timeout_s=_HAND_BACK_S, outage_budget=budget) as redis,
        ):
            if hang.suspects is not None:
                innocent = [claim for claim in held if claim.job not in hang.suspects]
                await self._release(redis, innocent)
            returned = await hand_back(redis, self._keys, self._owner)
        return returned.num_jobs

    async def _release(self, redis: Redis, claims: Sequence[Claim]) -> None:
        leases = Leases(redis, self._keys, worker=self._owner, lease_s=self._settings.lease_s)
        await asyncio.gather(*(leases.release(claim, burn_try=False) for claim in claims))
