-- A field as a whole number that Redis can add to, or nil.
local function whole(field)
  if not field or not string.find(field, '^-?%d+$') or #field > 15 then return nil end
  return tonumber(field)
end
