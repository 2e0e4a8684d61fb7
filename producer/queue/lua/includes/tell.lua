-- Publishes a message on a client's channel, within its shard if the client subscribed so. Returns how many heard it.
local function tell(root, client, message)
  local publish = string.sub(client, -2) == ':s' and 'SPUBLISH' or 'PUBLISH'
  local heard = redis.pcall(publish, root .. 'notifications:' .. client, message)
  return type(heard) == 'number' and heard or 0 -- the right to publish may be missing
end
