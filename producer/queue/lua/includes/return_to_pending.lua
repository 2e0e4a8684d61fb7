--- @include "end_lease"
--- @include "hash_fields"
--- @include "pend"
--- @include "whole"
-- Makes a leased job pending again after its worker died or its pause is over. Texts that were under test at the
-- death are appended to the job's bisection, and the job is deferred by 10 s so that others go first. A death costs
-- no try: tries count errors that a worker survived.
-- Returns 0 if the job had no owner (it paused), 1 if it had one, 2 if some of its texts were also under test.
local function return_to_pending(root, id, now)
  local max_deferral_ms = 3600000
  local job = root .. 'job:' .. id
  local fields = hash_fields(job, 'score', 'token', 'bisection', 'under_test', 'tries')
  local token, bisection, under_test = fields[2], fields[3] or '', fields[4]
  local score = whole(fields[1]) or now
  if under_test then
    score = math.min(score + 10000, now + max_deferral_ms)
    bisection = bisection .. '+' .. under_test
  end
  end_lease(root, id, token)
  pend(root, id, score)
  if not token then return 0 end
  redis.call('HSET', job, 'score', score, 'bisection', bisection)
  redis.call('HDEL', job, 'token', 'under_test')
  redis.call('HSET', job, 'tries', (whole(fields[5]) or 1) - 1)
  return under_test and 2 or 1
end
