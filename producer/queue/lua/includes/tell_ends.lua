--- @include "make_room"
--- @include "notify"
-- Tells who waits for these jobs that they have ended, and who waits for room that there is some.
-- `ended` lists {id, clients} of each job.
local function tell_ends(root, ended)
  if #ended == 0 then return end
  notify(root, ended)
  make_room(root, #ended)
end
