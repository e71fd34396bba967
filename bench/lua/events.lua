-- Posts events as fast as the answers come, or at a fixed rate, and writes down which were acknowledged.
--
-- A line of the ledger: the event's id, when it was sent, when its answer was there (CLOCK_MONOTONIC, in
-- nanoseconds). At a fixed rate "sent" is the moment that the schedule meant, when the request went later than
-- that: who waits for a free connection waits, and no stall of the server hides the requests that it held up
-- (coordinated omission). Without a rate there is no schedule to be late for, so there a stall counts once per
-- connection, as in any closed loop.

local ffi = require("ffi")
ffi.cdef [[
    typedef struct { long seconds; long nanoseconds; } timespec;
    int clock_gettime(int clock, timespec *now);
]]
local CLOCK_MONOTONIC = 1
local DIGITS = "%08d"
local HERE = debug.getinfo(1, "S").source:match("^@(.*/)")

local time = ffi.new("timespec")
local function now()
    ffi.C.clock_gettime(CLOCK_MONOTONIC, time)
    return tonumber(time.seconds) * 1e9 + tonumber(time.nanoseconds)
end

-- One thread: it sends several times what any server here takes, and there is one schedule.
local thread

function setup(made)
    thread = made
end

-- Global, so that `done`, which runs in a Lua of its own, can ask the thread for them.
statuses, requests, strange, closed, unanswered = {}, 0, 0, 0, 0

local prefix, ledger, pause, began
local heads, between, rest = {}, nil, nil -- a request is a head, the id, what is between, the id, the rest
local sent, tickets = {}, 0

function init()
    prefix = os.getenv("LOAD_PREFIX") .. "-"
    ledger = assert(io.open(os.getenv("LOAD_LEDGER"), "w"))
    ledger:setvbuf("full", 65536)
    local rate = tonumber(os.getenv("LOAD_RATE"))
    pause = rate and 1e9 / rate
    if not pause then delay = nil end
    local size = tonumber(os.getenv("LOAD_BODY_BYTES"))
    local before
    before, rest = dofile(HERE .. "body.lua")(size, #prefix + #DIGITS:format(0))
    between = "\r\n\r\n" .. before
    for token in os.getenv("LOAD_TOKENS"):gmatch("%S+") do
        table.insert(heads, "POST " .. wrk.path .. " HTTP/1.1\r\nHost: " .. wrk.host .. ":" .. wrk.port
            .. "\r\nContent-Type: application/json\r\nContent-Length: " .. size
            .. "\r\nCL-X-TOKEN: " .. token .. "\r\nCL-X-EVENT-ID: ")
    end
end

-- Each connection that is free takes the next moment of the schedule, and waits for it (in milliseconds).
function delay()
    local moment = now()
    began = began or moment
    local due = began + tickets * pause
    tickets = tickets + 1
    return math.max(0, math.floor((due - moment) / 1e6))
end

function request()
    local id = prefix .. DIGITS:format(requests)
    local moment = now()
    -- wrk asks once before it begins, to see whether this is HTTP.
    if pause and began then moment = math.min(moment, began + (requests - 1) * pause) end
    sent[id] = moment
    requests = requests + 1
    unanswered = unanswered + 1
    return heads[requests % #heads + 1] .. id .. between .. id .. rest
end

function response(status, headers, body)
    local moment = now()
    statuses[status] = (statuses[status] or 0) + 1
    if headers["connection"] == "close" or headers["Connection"] == "close" then closed = closed + 1 end
    if status ~= 202 and status ~= 200 then
        unanswered = unanswered - 1
        return
    end
    local id = body:match('"event_id":"([^"]*)"')
    local at = id and sent[id]
    if not at then
        strange = strange + 1
        return
    end
    sent[id] = nil
    unanswered = unanswered - 1
    ledger:write(id, (" %.0f %.0f\n"):format(at, moment))
end

function done(summary)
    local list = {}
    for status, count in pairs(thread:get("statuses")) do
        table.insert(list, ('"%d":%d'):format(status, count))
    end
    local errors, asked_before = summary.errors, 1
    io.write(('\n{"seconds":%.6f,"requests":%d,"statuses":{%s},"unanswered":%d,'):format(
        summary.duration / 1e6, summary.requests, table.concat(list, ","), thread:get("unanswered") - asked_before))
    io.write(('"errors":{"connect":%d,"read":%d,"write":%d,"timeout":%d,"strange":%d,"closed":%d}}\n'):format(
        errors.connect, errors.read, errors.write, errors.timeout, thread:get("strange"), thread:get("closed")))
end
