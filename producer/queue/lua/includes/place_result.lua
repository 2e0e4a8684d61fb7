--- @include "hash_fields"
--- @include "whole"
-- Makes a job's result visible, provided that `token` still owns the job: `payload`, or what is staged if
-- `staging_token` is not ''. `keep_ms` is how long it is kept, '' for as long as the job asked for.
-- Returns what `keep_answers` and `notify` need of the job, and the bytes of its texts; nil if nothing was written.
local function place_result(root, id, token, payload, staging_token, keep_ms)
  local staged, result = root .. 'staged:' .. staging_token, root .. 'result:' .. id
  local fields = hash_fields(root .. 'job:' .. id, 'token', 'bytes', 'keep', 'clients', 'asks', 'digest')
  local owns, bytes = fields[1] == token, #payload
  if staging_token ~= '' then
    bytes = owns and redis.call('STRLEN', staged) or 0
    if bytes == 0 then redis.call('UNLINK', staged) end
    owns = bytes > 0
  end
  if not owns then return nil end
  local kept_ms = math.max(1, whole(keep_ms == '' and fields[3] or keep_ms) or 60000)
  if staging_token == '' then
    redis.call('SET', result, payload, 'PX', kept_ms)
  else
    redis.call('RENAME', staged, result)
    redis.call('PEXPIRE', result, kept_ms)
  end
  return {id = id, text_bytes = whole(fields[2]) or 0, clients = fields[4] or '', bytes = bytes, kept_ms = kept_ms,
    asks = whole(fields[5]), digest = fields[6]}
end
