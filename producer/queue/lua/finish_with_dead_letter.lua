--[[
  Ends a job with its staged result, and keeps some of its texts as a separate dead letter. An id is either on
  the queue or a dead letter, never both: if a job with the dead letter's id is on the queue, none is kept.

  KEYS[1] root of the queue's keys
  ARGV[1] id
  ARGV[2] token
  ARGV[3] staging_token: of the result
  ARGV[4] code: why the texts failed
  ARGV[5] message
  ARGV[6] tries
  ARGV[7] keep_ms: how long dead letters are kept
  ARGV[8] max_letters
  ARGV[9] max_bytes: of all dead letters' texts
  ARGV[10] letter_id
  ARGV[11] letter_staging_token: of the dead letter's request
  ARGV[12] letter_bytes
  ARGV[13] letter_texts

  Returns 1 if the token owned the job, 0 if not; then nothing is written.
]]
--- @include "server_time"
--- @include "place_result"
--- @include "end_jobs"
--- @include "owner_of"
--- @include "keep_dead_letter"
local root = KEYS[1]
local id = ARGV[1]
local token = ARGV[2]
local staging_token = ARGV[3]
local code = ARGV[4]
local message = ARGV[5]
local tries = ARGV[6]
local keep_ms = tonumber(ARGV[7])
local max_letters = tonumber(ARGV[8])
local max_bytes = tonumber(ARGV[9])
local letter_id = ARGV[10]
local letter_staging_token = ARGV[11]
local letter_bytes = ARGV[12]
local letter_texts = ARGV[13]

local placed = place_result(root, id, token, '', staging_token, '')
if not placed then return 0 end
end_jobs(root, owner_of(token), {placed}, 'done')
local job, letter_staged = root .. 'job:' .. id, root .. 'staged:' .. letter_staging_token
local now = server_time()
local fields = redis.call('HMGET', job, 'score', 'enqueued', 'keep')
redis.call('UNLINK', root .. 'request:' .. id, job)
if redis.call('EXISTS', letter_staged) == 1 and redis.call('EXISTS', root .. 'job:' .. letter_id) == 0 then
  redis.call('RENAME', letter_staged, root .. 'dead-request:' .. letter_id)
  redis.call('UNLINK', root .. 'dead:' .. letter_id)
  redis.call('HSET', root .. 'dead:' .. letter_id, 'bytes', letter_bytes, 'texts', letter_texts, 'bisection', '',
    'score', fields[1] or now, 'enqueued', fields[2] or now, 'keep', fields[3] or 60000)
  keep_dead_letter(root, letter_id, {code = code, message = message, tries = tries},
    {keep_ms = keep_ms, max_letters = max_letters, max_bytes = max_bytes})
end
redis.call('UNLINK', letter_staged)
return 1
