-- The usual limiter of a gateway with Lua: the window is weighed from two counters of fixed windows,
-- read and counted up by one EVALSHA, over connections that nginx pools.

local script = [[
local used = tonumber(redis.call('GET', KEYS[2]) or '0') * tonumber(ARGV[2])
    + tonumber(redis.call('GET', KEYS[1]) or '0')
local limit = tonumber(ARGV[1])
if used + 1 > limit then
    return -1
end
redis.call('INCR', KEYS[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return math.floor(limit - used - 1)
]]

local window = {}
local sha

local function bulk(word)
    return "$" .. #word .. "\r\n" .. word .. "\r\n"
end

-- Sends one command whose answer is an integer or a string.
local function ask(socket, command)
    local sent, problem = socket:send(command)
    if not sent then
        return nil, problem
    end
    local line
    line, problem = socket:receive("*l")
    if not line then
        return nil, problem
    end
    local kind, rest = line:sub(1, 1), line:sub(2)
    if kind == ":" then
        return tonumber(rest)
    elseif kind == "$" then
        local text = socket:receive(tonumber(rest) + 2)
        return text and text:sub(1, -3)
    end
    return nil, rest
end

local function left(socket, limit, window_s, key)
    if not sha then
        local problem
        sha, problem = ask(socket, "*3\r\n$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n" .. bulk(script))
        if not sha then
            return nil, problem
        end
    end
    local now = ngx.now()
    local slot = math.floor(now / window_s)
    local weight = 1 - (now / window_s - slot)
    local base = "rate:{" .. key .. "}:"
    return ask(socket, "*8\r\n$7\r\nEVALSHA\r\n$40\r\n" .. sha .. "\r\n$1\r\n2\r\n"
        .. bulk(base .. slot) .. bulk(base .. slot - 1)
        .. bulk(tostring(limit)) .. bulk(tostring(weight)) .. bulk(tostring(2000 * window_s)))
end

-- Refuses the request when its API key is over `limit` in `window_s` seconds.
function window.limit(port, limit, window_s)
    local socket = ngx.socket.tcp()
    socket:settimeout(1000)
    local connected, problem = socket:connect("127.0.0.1", port)
    if not connected then
        ngx.log(ngx.ERR, "Redis: ", problem)
        return ngx.exit(503)
    end
    local rest
    rest, problem = left(socket, limit, window_s, ngx.var.http_x_api_key)
    if not rest then
        ngx.log(ngx.ERR, "Redis: ", problem)
        return ngx.exit(503)
    end
    socket:setkeepalive(60000, 128)
    if rest < 0 then
        return ngx.exit(429)
    end
end

return window
