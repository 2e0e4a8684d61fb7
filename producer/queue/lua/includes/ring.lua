-- Wakes one idle worker, the one that held fewest jobs. One that does not listen any more is passed over.
local function ring(root)
  while true do
    local worker = redis.pcall('ZPOPMIN', root .. 'idle')[1]
    if not worker or redis.call('PUBLISH', root .. 'wakeup:' .. worker, '+') > 0 then return end
  end
end
