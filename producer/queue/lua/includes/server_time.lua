-- The server's clock: the time in ms, and the seconds and microseconds that it consists of.
local function server_time()
  local time = redis.call('TIME')
  local seconds, micros = tonumber(time[1]), tonumber(time[2])
  return seconds * 1000 + math.floor(micros / 1000), seconds, micros
end
