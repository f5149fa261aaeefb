-- For wrk: POST a body of as many bytes as the first argument says.
function init(arguments)
  wrk.method = "POST"
  wrk.body = string.rep("x", tonumber(arguments[1]))
  wrk.headers["Content-Type"] = "text/plain"
end
