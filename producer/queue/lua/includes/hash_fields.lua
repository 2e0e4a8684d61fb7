-- Fields of a hash that anybody may have written; none of them if the key is of another type.
local function hash_fields(key, ...)
  local found = redis.pcall('HMGET', key, ...)
  return found.err and {} or found
end
