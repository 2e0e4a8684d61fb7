--[[
  Ends jobs of a worker with their results.

  KEYS[1] root of the queue's keys
  ARGV[1] worker
  ARGV[2...] of each job its id, its token, the result, and the staging token of the result: one of the two is ''

  Returns for each job 1 if the token owned it, 0 if not; then nothing is written for it.
]]
--- @include "place_result"
--- @include "end_jobs"
local root = KEYS[1]
local worker = ARGV[1]

local written, ended, gone, seen = {}, {}, {}, {}
for i = 2, #ARGV, 4 do
  local id = ARGV[i]
  local placed = not seen[id] and place_result(root, id, ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], '')
  written[#written + 1] = placed and 1 or 0
  if placed then
    seen[id] = true
    ended[#ended + 1] = placed
    gone[#gone + 1], gone[#gone + 2] = root .. 'request:' .. id, root .. 'job:' .. id
  end
end
if #ended > 0 then
  redis.call('UNLINK', unpack(gone))
  end_jobs(root, worker, ended, 'done')
end
return written
