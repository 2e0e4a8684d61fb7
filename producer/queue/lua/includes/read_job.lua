--- @include "whole"
-- The numbers of a job's hash by name, nil where there is none, and its bisection; nil instead of all if the entry is
-- not a job: its id is not printable, its hash is of another type, or one of its numbers is not one.
local function read_job(root, id)
  if #id > 256 or string.find(id, '[^\33-\126]') then return nil end
  local names = {'bytes', 'texts', 'score', 'enqueued', 'tries', 'deadline'}
  local fields, job = redis.pcall('HMGET', root .. 'job:' .. id, 'bisection', unpack(names)), {}
  if fields.err then return nil end
  for place, name in ipairs(names) do
    local field = fields[place + 1]
    if field then
      job[name] = whole(field)
      if not job[name] then return nil end
    end
  end
  job.bisection = fields[1]
  return job
end
