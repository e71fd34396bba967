-- What is posted? JSON in the shape of a webhook of a code host, of exactly as many bytes as asked for.
-- It comes in two pieces, before and behind the event's id.

local HEAD = '{"type":"push","id":"'
local TAIL = '","created_at":"2026-01-01T00:00:00Z","public":true,"repository":{"id":186853002,"name":"Hello-World",'
    .. '"full_name":"octo-org/Hello-World","private":false,"url":"https://api.example.com/repos/octo-org/Hello-World"},'
    .. '"sender":{"login":"octo-org","id":6811672,"site_admin":false},"payload":{"ref":"refs/heads/main","forced":false,'
    .. '"before":"6113728f27ae82c7b1a177c8d03f9e96e0adf246","commits":['
local COMMIT = '{"id":"4b825dc642cb6eb9a060e54bf8d69288fbee4904","distinct":true,"message":"Say hello, and mean it",'
    .. '"author":{"name":"Octo Cat","email":"octo@example.com"},"added":["hello.txt"],"removed":[],"modified":[]},'
local LAST = '{"id":"a10867b14bb761a232cd80139fbd4c0d33264240","distinct":true,"message":"'
local FOOT = '"}],"size":null}}'

-- The bytes around an id of `id_bytes`, `size` in all.
return function(size, id_bytes)
    local left = size - #HEAD - id_bytes - #TAIL - #LAST - #FOOT
    if left < 0 then error("a body has at least " .. (size - left) .. " bytes") end
    local commits = math.floor(left / #COMMIT)
    local message = string.rep("hello ", left):sub(1, left - commits * #COMMIT)
    return HEAD, TAIL .. string.rep(COMMIT, commits) .. LAST .. message .. FOOT
end
