--- @include "tell"
-- Wakes as many clients that wait for room as there is new room for jobs, those first that have waited longest. One that
-- does not listen any more is passed over.
local function make_room(root, num_jobs)
  while num_jobs > 0 do
    local client = redis.pcall('ZPOPMIN', root .. 'waiting')[1]
    if not client then return end
    num_jobs = num_jobs - tell(root, client, '+')
  end
end
