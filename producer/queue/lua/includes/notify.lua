--- @include "tell"
-- Tells the clients that asked for jobs that these have ended, each client in one message however many they are.
-- `ended` lists {id, clients} of each job.
local function notify(root, ended)
  local messages = {}
  for _, job in ipairs(ended) do
    for client in string.gmatch(job.clients, '%S+') do
      messages[client] = (messages[client] or '=') .. ' ' .. job.id
    end
  end
  for client, message in pairs(messages) do tell(root, client, message) end
end
