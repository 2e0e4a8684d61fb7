--- @include "count"
--- @include "keep_answers"
--- @include "server_time"
--- @include "tell_ends"
-- Takes jobs of a worker off the queue whose results are in place, and tells who waits for them, or for room. Their
-- hashes and requests are left to the caller. `outcome` is the counter to increase.
local function end_jobs(root, worker, ended, outcome)
  local ids, text_bytes = {}, 0
  for place, job in ipairs(ended) do
    ids[place], text_bytes = job.id, text_bytes + job.text_bytes
  end
  redis.call('ZREM', root .. 'leases', unpack(ids))
  redis.call('SREM', root .. 'held:' .. worker, unpack(ids))
  count(root, 'bytes', keep_answers(root, ended, server_time()) - text_bytes)
  count(root, outcome, #ended)
  tell_ends(root, ended)
end
