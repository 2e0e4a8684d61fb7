"""How jobs are taken off their queue before their time: one by its id, or all that a run alone wants."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from producer.contract import FAILURE_KEPT_S, Failure, Keys, encode_failure

CANCELLED = encode_failure(Failure(code="cancelled", message="the job was cancelled"))
_JOBS_PER_STEP = 256  # a few milliseconds of the server's time

# KEYS[1] root of the queue's keys
# ARGV the answer, its keep in ms, a run or '', job ids -> how many were ended, how many others want too
# A job that is not of the run is left alone; without a run each is ended, whoever wants it.
_CANCEL = """
local root, run = KEYS[1], ARGV[3]
local ended, left = 0, 0
for i = 4, #ARGV do
  local id = ARGV[i]
  local job = root .. 'job:' .. id
  local is_ours = run == ''
  if not is_ours and redis.call('HDEL', job, 'run:' .. run) == 1 then
    is_ours = redis.call('HINCRBY', job, 'wanted', -1) <= 0
    if not is_ours then left = left + 1 end
  end
  if is_ours and redis.call('ZREM', root .. 'waiting', id) + redis.call('ZREM', root .. 'leases', id) > 0 then
    redis.call('SET', root .. 'result:' .. id, ARGV[1], 'PX', ARGV[2])
    redis.call('HINCRBY', root .. 'totals', 'bytes', 0 - tonumber(redis.call('HGET', job, 'bytes') or '0'))
    redis.call('HINCRBY', root .. 'totals', 'cancelled', 1)
    redis.call('UNLINK', root .. 'request:' .. id, job)
    redis.call('PUBLISH', root .. 'events', id)
    redis.call('PUBLISH', root .. 'bell', '-' .. id)
    ended = ended + 1
  end
end
return {ended, left}
"""


@dataclass(frozen=True, slots=True)
class RunCancelled:
    """What became of a run's jobs on the queue: ended, or left since another run or caller wants them too."""

    num_ended: int
    num_left: int


class Cancellation:
    """Ends jobs of one queue with the answer `cancelled`. redis-py's errors pass through.

    With a job's hash its owner's token is gone, so a worker that runs it can write nothing any more; it is
    told to stop.
    """

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def cancel(self, job: str) -> bool:
        """End a waiting or running job, whoever wants it; False if there is none of that id."""
        return (await self._step("", [job])).num_ended == 1

    async def cancel_run(self, run: str) -> RunCancelled:
        """End the run's jobs on the queue that nobody else wants, a few hundred at an atomic step."""
        # In one transaction: a job moves between the two, and would be missed or counted twice.
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.zrange(self._keys.waiting, 0, -1)
            pipe.zrange(self._keys.leases, 0, -1)
            waiting, leased = await pipe.execute()
        return await self.withdraw(run, [job.decode() for job in (*waiting, *leased)])

    async def withdraw(self, run: str, jobs: Sequence[str]) -> RunCancelled:
        """The same for those of `jobs` that belong to the run."""
        num_ended, num_left = 0, 0
        for first in range(0, len(jobs), _JOBS_PER_STEP):
            step = await self._step(run, jobs[first : first + _JOBS_PER_STEP])
            num_ended, num_left = num_ended + step.num_ended, num_left + step.num_left
        return RunCancelled(num_ended, num_left)

    async def _step(self, run: str, jobs: Sequence[str]) -> RunCancelled:
        keep_ms = str(int(FAILURE_KEPT_S * 1000))
        arguments: tuple[Any, ...] = (self._keys.root, CANCELLED, keep_ms, run, *jobs)
        counts: Any = self._redis.eval(_CANCEL, 1, *arguments)
        return RunCancelled(*await counts)
