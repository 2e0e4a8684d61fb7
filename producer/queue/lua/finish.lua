--[[
  Ends a job with its staged result.

  KEYS[1] root of the queue's keys
  ARGV[1] id
  ARGV[2] token
  ARGV[3] staging_token: of the result

  Returns 1 if the token owned the job, 0 if not; then nothing is written.
]]
--- @include "publish_result"
local root = KEYS[1]
local id = ARGV[1]
local token = ARGV[2]
local staging_token = ARGV[3]

if not publish_result(root, id, token, staging_token, '', 'done') then return 0 end
redis.call('UNLINK', root .. 'request:' .. id, root .. 'job:' .. id)
return 1
