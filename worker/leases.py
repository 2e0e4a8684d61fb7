"""The right to run a job, kept in Redis: claimed, renewed, and given up by its owner only.

Every step is one script on the queue's keys and on the server's clock. A job is waiting (in the zset
`waiting`) or leased (in the zset `leases` until the time in its score); a lease that has run out puts its
job back to waiting at the next claim of any worker. The owner token in the job's hash fences every way of
finishing: whoever lost the lease writes nothing. A job that pauses before its next try is a lease without
an owner.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis as SyncRedis
from redis.asyncio import Redis

from producer.contract import Keys

_NOW = """
local root = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

# ARGV worker token, most jobs, most bytes, lease in ms -> {id, tries, bytes, texts, enqueued, now} each
_CLAIM = (
    _NOW
    + """
for _, id in ipairs(redis.call('ZRANGEBYSCORE', root .. 'leases', '-inf', now, 'LIMIT', 0, 128)) do
  redis.call('ZREM', root .. 'leases', id)
  redis.call('ZADD', root .. 'waiting', redis.call('HGET', root .. 'job:' .. id, 'score') or now, id)
  if redis.call('HDEL', root .. 'job:' .. id, 'token') == 1 then
    redis.call('HINCRBY', root .. 'totals', 'lost_leases', 1)
  end
end
local claimed, bytes = {}, 0
local ids = redis.call('ZRANGEBYSCORE', root .. 'waiting', '-inf', now + 3600000, 'LIMIT', 0, ARGV[2])
for _, id in ipairs(ids) do
  local job = root .. 'job:' .. id
  local facts = redis.call('HMGET', job, 'bytes', 'texts', 'enqueued')
  bytes = bytes + tonumber(facts[1] or '0')
  if #claimed > 0 and bytes > tonumber(ARGV[3]) then break end
  local tries = redis.call('HINCRBY', job, 'tries', 1)
  redis.call('HSET', job, 'token', ARGV[1] .. ':' .. tries)
  redis.call('ZREM', root .. 'waiting', id)
  redis.call('ZADD', root .. 'leases', now + ARGV[4], id)
  claimed[#claimed + 1] = {id, tries, facts[1] or '0', facts[2] or '0', facts[3] or now, now}
end
return claimed
"""
)

# ARGV worker, its presence in ms, lease in ms, then id and token of each job -> ids no longer ours
_RENEW = (
    _NOW
    + """
redis.call('ZREMRANGEBYSCORE', root .. 'workers', '-inf', now)
redis.call('ZADD', root .. 'workers', now + ARGV[2], ARGV[1])
local lost = {}
for i = 4, #ARGV, 2 do
  if redis.call('HGET', root .. 'job:' .. ARGV[i], 'token') == ARGV[i + 1] then
    redis.call('ZADD', root .. 'leases', 'XX', now + ARGV[3], ARGV[i])
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
"""
)

# ARGV id, token, staging token of the answer, keep in ms, counter -> 1 if it was ours to finish
_FINISH = (
    _NOW
    + """
local id, staged = ARGV[1], root .. 'staged:' .. ARGV[3]
local job = root .. 'job:' .. id
local facts = redis.call('HMGET', job, 'token', 'bytes', 'keep')
if facts[1] ~= ARGV[2] or redis.call('EXISTS', staged) == 0 then
  redis.call('UNLINK', staged)
  return 0
end
redis.call('RENAME', staged, root .. 'result:' .. id)
redis.call('PEXPIRE', root .. 'result:' .. id, math.max(1, tonumber(ARGV[4] ~= '' and ARGV[4] or facts[3])))
redis.call('ZREM', root .. 'leases', id)
redis.call('UNLINK', root .. 'request:' .. id, job)
redis.call('HINCRBY', root .. 'totals', 'bytes', -tonumber(facts[2] or '0'))
redis.call('HINCRBY', root .. 'totals', ARGV[5], 1)
redis.call('PUBLISH', root .. 'events', id)
return 1
"""
)

# ARGV id, token, pause in ms, tries to give back -> 1 if it was ours to release
_RELEASE = (
    _NOW
    + """
local job = root .. 'job:' .. ARGV[1]
if redis.call('HGET', job, 'token') ~= ARGV[2] then return 0 end
redis.call('HDEL', job, 'token')
redis.call('HINCRBY', job, 'tries', -tonumber(ARGV[4]))
if tonumber(ARGV[3]) > 0 then
  redis.call('ZADD', root .. 'leases', now + ARGV[3], ARGV[1])
else
  redis.call('ZREM', root .. 'leases', ARGV[1])
  redis.call('ZADD', root .. 'waiting', redis.call('HGET', job, 'score') or now, ARGV[1])
  redis.call('PUBLISH', root .. 'events', '+')
end
return 1
"""
)

_PRESENCE_LEASES = 4  # a worker counts as alive so many leases after its last sign of life
STAGED_S = 60  # how long an answer may lie between its two commands


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A job that is ours until its lease runs out; `tries` counts this one."""

    job: str
    token: str
    tries: int
    num_bytes: int
    num_texts: int
    waited_s: float


class Leases:
    """One worker's claims on one queue. redis-py's errors pass through."""

    def __init__(self, redis: Redis, keys: Keys, *, worker: str, lease_s: float) -> None:
        self._redis = redis
        self._keys = keys
        self._worker = worker
        self._lease_ms = int(lease_s * 1000)

    async def claim(self, max_jobs: int, max_bytes: int) -> list[tuple[Claim, bytes | None]]:
        """The next jobs in order with their requests; at least one if any waits, however large."""
        rows = await self._eval(_CLAIM, self._worker, str(max_jobs), str(max_bytes), str(self._lease_ms))
        claims = [self._read_claim(row) for row in rows]
        if not claims:
            return []
        payloads = await self._redis.mget([self._keys.request(claim.job) for claim in claims])
        return list(zip(claims, payloads, strict=True))

    async def finish(
        self, claim: Claim, answer: bytes, *, counter: str = "done", keep_s: float | None = None
    ) -> bool:
        """Make the answer visible and forget the job, in one step; False if the lease was lost."""
        staging = f"{claim.job}:{claim.token}"
        keep_ms = "" if keep_s is None else str(int(keep_s * 1000))
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.set(self._keys.staged(staging), answer, ex=STAGED_S)
            pipe.eval(_FINISH, 1, self._keys.root, claim.job, claim.token, staging, keep_ms, counter)
            _, finished = await pipe.execute()
        return bool(finished)

    async def release(self, claim: Claim, *, pause_s: float = 0.0, burn_try: bool) -> bool:
        """Hand the job back for anybody to claim after the pause; False if the lease was lost."""
        pause_ms, refund = str(int(pause_s * 1000)), "0" if burn_try else "1"
        released = await self._eval(_RELEASE, claim.job, claim.token, pause_ms, refund)
        return bool(released)

    def renew(self, redis: SyncRedis, claims: Iterable[Claim]) -> set[str]:
        """Extend the leases from now, through a blocking connection; the ids that are lost.

        It is the worker's sign of life too, with or without claims.
        """
        jobs = [part for claim in claims for part in (claim.job, claim.token)]
        terms = (str(_PRESENCE_LEASES * self._lease_ms), str(self._lease_ms))
        lost: Any = redis.eval(_RENEW, 1, self._keys.root, self._worker, *terms, *jobs)
        return {job.decode() for job in lost}

    def leave(self, redis: SyncRedis) -> None:
        """Take back the sign of life."""
        redis.zrem(self._keys.workers, self._worker)

    async def _eval(self, script: str, *arguments: str) -> Any:
        answer: Any = self._redis.eval(script, 1, self._keys.root, *arguments)
        return await answer

    def _read_claim(self, row: Sequence[bytes | int]) -> Claim:
        job, tries, num_bytes, num_texts, enqueued, now = row
        name = job.decode() if isinstance(job, bytes) else str(job)
        return Claim(
            job=name,
            token=f"{self._worker}:{int(tries)}",
            tries=int(tries),
            num_bytes=int(num_bytes),
            num_texts=int(num_texts),
            waited_s=(int(now) - int(enqueued)) / 1000,
        )
