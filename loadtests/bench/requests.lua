-- wrk's requests: a template into which each request puts the next voter's token and the next candidates.
-- args: file of tokens, bytes of a token, first token, file of the template, file of the candidates (one set a line)
-- In the template @TOKEN@ stands once and @CANDIDATES@ once; the sets are of equal length, so is every request.
local tokens, width, at, parts, sets, token_first

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

function init(args)
  if #args == 0 then return end
  tokens, width, at = read(args[1]), tonumber(args[2]), tonumber(args[3])
  local template = read(args[4])
  local a, t, b, c, d = template:match("^(.-)(@[A-Z]+@)(.-)(@[A-Z]+@)(.*)$")
  parts, token_first = { a, b, d }, t == "@TOKEN@"
  sets = {}
  for line in read(args[5]):gmatch("[^\n]+") do sets[#sets + 1] = line end
  request = next_request
end

function next_request()
  local token = tokens:sub(at * width + 1, at * width + width)
  local set = sets[at % #sets + 1]
  at = at + 1
  if token_first then return parts[1] .. token .. parts[2] .. set .. parts[3] end
  return parts[1] .. set .. parts[2] .. token .. parts[3]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"answers":%d,"seconds":%.6f,"refused":%d,"broken":%d,"p50_ms":%.3f,"p99_ms":%.3f}\n',
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
