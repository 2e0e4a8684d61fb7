-- The worker to whom a token was given, or nil.
local function owner_of(token) return token and string.match(token, '^(.*):%d+:%d+$') end
