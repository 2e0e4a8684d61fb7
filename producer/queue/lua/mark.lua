--[[
  Records which texts of a job are under test before a worker touches them, so that a death shows which texts to
  suspect.

  KEYS[1] root of the queue's keys
  ARGV[1] id
  ARGV[2] token
  ARGV[3] bisection: what is known so far, encoded
  ARGV[4] under_test: the range of texts that runs next

  Returns 1 if the token owned the job, 0 if not.
]]
--- @include "hash_fields"
local root = KEYS[1]
local id = ARGV[1]
local token = ARGV[2]
local bisection = ARGV[3]
local under_test = ARGV[4]

local job = root .. 'job:' .. id
if hash_fields(job, 'token')[1] ~= token then return 0 end
redis.call('HSET', job, 'bisection', bisection, 'under_test', under_test)
return 1
