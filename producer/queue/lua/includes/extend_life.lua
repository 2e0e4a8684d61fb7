-- Gives one of the queue's own keys an end: eight days after its last use, a day more than a job may wait.
local function extend_life(key)
  redis.call('PEXPIRE', key, 691200000)
end
