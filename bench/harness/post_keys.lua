-- For wrk: POST a body of as many bytes as the first argument says, with an ordering key, a thousand of them by turns.
local number = 0
function init(arguments)
  wrk.method = "POST"
  wrk.body = string.rep("x", tonumber(arguments[1]))
  wrk.headers["Content-Type"] = "text/plain"
end
function request()
  number = (number + 1) % 1000
  wrk.headers["X-Alula-Ordering-Key"] = "key-" .. number
  return wrk.format()
end
