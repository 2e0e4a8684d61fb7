--[[
  Gives a job up: ends it with a staged failure as its result, and keeps it as a dead letter. A job that was
  bisected starts a new bisection when it is requeued.

  KEYS[1] root of the queue's keys
  ARGV[1] id
  ARGV[2] token
  ARGV[3] staging_token: of the result
  ARGV[4] result_keep_ms: how long the result is kept
  ARGV[5] code: why the job is given up
  ARGV[6] message
  ARGV[7] tries
  ARGV[8] keep_ms: how long dead letters are kept
  ARGV[9] max_letters
  ARGV[10] max_bytes: of all dead letters' texts

  Returns 1 if the token owned the job, 0 if not; then nothing is written.
]]
--- @include "place_result"
--- @include "end_jobs"
--- @include "owner_of"
--- @include "keep_dead_letter"
local root = KEYS[1]
local id = ARGV[1]
local token = ARGV[2]
local staging_token = ARGV[3]
local result_keep_ms = ARGV[4]
local code = ARGV[5]
local message = ARGV[6]
local tries = ARGV[7]
local keep_ms = tonumber(ARGV[8])
local max_letters = tonumber(ARGV[9])
local max_bytes = tonumber(ARGV[10])

local placed = place_result(root, id, token, '', staging_token, result_keep_ms)
if not placed then return 0 end
end_jobs(root, owner_of(token), {placed}, 'failed')
local job, request = root .. 'job:' .. id, root .. 'request:' .. id
redis.call('HDEL', job, 'token', 'under_test', 'clients')
if redis.call('HGET', job, 'bisection') then redis.call('HSET', job, 'bisection', '') end
redis.call('RENAME', job, root .. 'dead:' .. id)
if redis.call('EXISTS', request) == 1 then redis.call('RENAME', request, root .. 'dead-request:' .. id) end
keep_dead_letter(root, id, {code = code, message = message, tries = tries},
  {keep_ms = keep_ms, max_letters = max_letters, max_bytes = max_bytes})
return 1
