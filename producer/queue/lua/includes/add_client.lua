--- @include "hash_fields"
-- Has a client told when the job ends.
local function add_client(root, id, client)
  local job = root .. 'job:' .. id
  local clients = hash_fields(job, 'clients')[1] or ''
  if client == '' or string.find(' ' .. clients .. ' ', ' ' .. client .. ' ', 1, true) then return end
  redis.pcall('HSET', job, 'clients', clients == '' and client or clients .. ' ' .. client)
end
