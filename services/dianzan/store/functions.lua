#!lua name=dianzan
-- The store's side of a like, version 4. Loaded by vote_store.py; works on Redis >= 7.0 and Valkey >= 8.
--
-- A shard's keys share one hash tag, so every call below touches one slot. Functions are not rolled back:
-- each checks everything before its first write.
--
-- gate    string  'closed', 'behind' (to be rebuilt from the ledger), or '>I4I2BI4I8I8': version, quota, width, buckets, opens_ms, closes_ms
-- marks   hash    bytes 8-13 of a voter's hash -> candidate indexes of `width` bytes liked in the window
-- ballot  bytes   voter 16 | class 1 | publisher 2 | network 4 | n 1 | n indexes of `width` bytes, big-endian

local LIBRARY_VERSION = 4
local HEAD = 24               -- bytes of a ballot before its candidates
local LIKES_MAX = 256         -- likes in one call; a call blocks the store
local SKEW_MS_MAX = 5000      -- sender's clock against the store's
local CLOSED = 'closed'
local BEHIND = 'behind'

-- While a library loads, Valkey 9 hides the global `string`; the methods of a string are the same functions.
local text = ''
local byte, char, find, sub = text.byte, text.char, text.find, text.sub

local COUNTED, ALREADY, OVER = 'c', 'a', 'q'

local function store_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- The likes left as '>I2', for every quota there is; packing one costs as much as deciding a like.
local LEFT = {}
for n = 0, 255 do LEFT[n] = char(0, n) end

-- Whether `mark` holds `index` at a multiple of `width`.
local function has(mark, index, width)
  if width == 1 then return find(mark, index, 1, true) ~= nil end
  for at = 1, #mark, width do
    if sub(mark, at, at + width - 1) == index then return true end
  end
  return false
end

-- Decide one ballot against the voter's mark. Returns the new mark, the newly liked indexes and the status bytes.
local function decide(mark, indexes, width, quota)
  if #indexes == width then -- most ballots
    if has(mark, indexes, width) then return mark, '', ALREADY end
    if #mark >= quota * width then return mark, '', OVER end
    return mark .. indexes, indexes, COUNTED
  end
  local fresh, statuses = '', {}
  for at = 1, #indexes, width do
    local index = sub(indexes, at, at + width - 1)
    if has(mark, index, width) then
      statuses[#statuses + 1] = ALREADY
    elseif #mark >= quota * width then
      statuses[#statuses + 1] = OVER
    else
      mark = mark .. index
      fresh = fresh .. index
      statuses[#statuses + 1] = COUNTED
    end
  end
  return mark, fresh, table.concat(statuses)
end

-- Decide every ballot without writing. Returns nil where the bytes do not fit or hold too many likes, otherwise
-- the voters' keys, fields and marks, which of them changed, likes per index, the bytes for the ledger, and the reply.
-- Ballots one after another of which all likes are new go into the ledger in one piece, as they came.
local function decide_all(ballots, prefix, width, quota, buckets)
  local voters = { key = {}, field = {}, mark = {}, changed = {} } -- a table a voter would cost a fifth of the call
  local key, field, mark, changed = voters.key, voters.field, voters.mark, voters.changed
  local seen, added, ledger, reply = {}, {}, {}, {}
  local at, length, likes, run = 1, #ballots, 0, 1
  while at <= length do
    local n = byte(ballots, at + HEAD - 1)
    if not n or n == 0 then return nil end
    likes = likes + n
    local ends = at + HEAD + n * width
    if ends > length + 1 or likes > LIKES_MAX then return nil end

    local voter = sub(ballots, at + 4, at + 13)
    local v = seen[voter]
    if not v then
      v = #key + 1
      seen[voter] = v
      local b1, b2, b3, b4 = byte(voter, 1, 4)
      key[v], field[v] = prefix .. (((b1 * 256 + b2) * 256 + b3) * 256 + b4) % buckets, sub(voter, 5)
      mark[v] = redis.call('HGET', key[v], field[v]) or ''
    end
    local fresh, statuses
    mark[v], fresh, statuses = decide(mark[v], sub(ballots, at + HEAD, ends - 1), width, quota)
    if #fresh > 0 then
      changed[v] = true
      for i = 1, #fresh, width do
        local index = sub(fresh, i, i + width - 1)
        added[index] = (added[index] or 0) + 1
      end
    end
    if #fresh < n * width then
      ledger[#ledger + 1] = sub(ballots, run, at - 1)
      if #fresh > 0 then ledger[#ledger + 1] = sub(ballots, at, at + HEAD - 2) .. char(#fresh / width) .. fresh end
      run = ends
    end
    reply[#reply + 1] = statuses
    reply[#reply + 1] = LEFT[math.max(0, quota - #mark[v] / width)]
    at = ends
  end
  ledger[#ledger + 1] = sub(ballots, run)
  return voters, added, table.concat(ledger), table.concat(reply)
end

-- Count a batch of likes of one window, atomically.
-- KEYS  gate, counts, stream, marks prefix (the bucket's number is appended to it; same slot)
-- ARGV  rules version, window day, window start ms, window end ms, sender's now ms, batch id (8 random bytes), ballots
-- Returns, per ballot, n status bytes ('c' counted, 'a' already liked, 'q' over quota) and the likes left as '>I2'.
-- Errors, nothing written: UNGATED no gate here, SHUT closed, STALE other rules version, SKEWED clocks differ,
--   EARLY before opens, LATE after closes, WINDOW not inside the window by the store's clock, MALFORMED.
local function like_v1(keys, args)
  local gate = redis.call('GET', keys[1])
  if not gate or gate == BEHIND then return redis.error_reply('UNGATED the shard has no gate') end
  if gate == CLOSED then return redis.error_reply('SHUT the shard is closed') end
  local version, quota, width, buckets, opens_ms, closes_ms = struct.unpack('>I4I2BI4I8I8', gate)
  if version ~= tonumber(args[1]) then return redis.error_reply('STALE the shard has rules version ' .. version) end

  local now, sent = store_ms(), tonumber(args[5])
  if not sent or math.abs(now - sent) > SKEW_MS_MAX then
    return redis.error_reply('SKEWED the store is at ' .. string.format('%.0f', now))
  end
  if now < opens_ms then return redis.error_reply('EARLY not open yet') end
  if now >= closes_ms then return redis.error_reply('LATE closed by the clock') end
  if now < tonumber(args[3]) or now >= tonumber(args[4]) then return redis.error_reply('WINDOW has ended') end

  local voters, added, ledger, reply = decide_all(args[7], keys[4], width, quota, buckets)
  if not voters or #args[6] ~= 8 then return redis.error_reply('MALFORMED ballots') end

  for v in pairs(voters.changed) do redis.call('HSET', voters.key[v], voters.field[v], voters.mark[v]) end
  for index, n in pairs(added) do
    redis.call('HINCRBY', keys[2], width == 1 and byte(index) or struct.unpack('>I2', index), n)
  end
  if #ledger > 0 then
    redis.call('XADD', keys[3], '*', 'v', width, 'w', args[2], 't', string.format('%.0f', now), 'b', args[6], 'd', ledger)
  end
  return reply
end

-- Open a shard, or give an open shard other rules.
-- KEYS  gate      ARGV  the packed rules, 'first' (open where there is no gate) or 'again' (only where it is open)
-- Returns OK.  Errors, nothing written: SHUT closed permanently, UNGATED 'again' on a shard that has no gate,
--   OLDER the shard has rules of a later version.
local function open_v1(keys, args)
  local gate = redis.call('GET', keys[1])
  if gate == CLOSED then return redis.error_reply('SHUT the shard is closed for good') end
  if gate == BEHIND then gate = nil end
  if not gate and args[2] ~= 'first' then return redis.error_reply('UNGATED the shard has lost its gate') end
  if gate and struct.unpack('>I4', gate) > struct.unpack('>I4', args[1]) then
    return redis.error_reply('OLDER the shard has rules version ' .. struct.unpack('>I4', gate))
  end
  redis.call('SET', keys[1], args[1])
  return redis.status_reply('OK')
end

-- Close a shard permanently; again changes nothing.
-- KEYS  gate      Returns OK.
local function close_v1(keys)
  redis.call('SET', keys[1], CLOSED)
  return redis.status_reply('OK')
end

-- Take the gate from an open shard that cannot be trusted, and note that it is to be rebuilt; others stay as they are.
-- KEYS  gate      Returns the number of gates taken, 0 or 1.
local function ungate_v1(keys)
  local gate = redis.call('GET', keys[1])
  if not gate or gate == CLOSED or gate == BEHIND then return 0 end
  redis.call('SET', keys[1], BEHIND)
  return 1
end

-- Remove keys of a shard that takes no likes, so that it can be written again.
-- KEYS  gate, then at most 1,000 keys of the shard      Returns the number removed.
-- Errors, nothing written: GATED the shard is open.
local function clear_v1(keys)
  local gate = redis.call('GET', keys[1])
  if gate and gate ~= CLOSED and gate ~= BEHIND then return redis.error_reply('GATED the shard takes likes') end
  return redis.call('UNLINK', unpack(keys, 2))
end

-- Store a campaign's document.
-- KEYS  document  ARGV  version, JSON      Returns OK.  Errors, nothing written: OLDER a later version is stored.
local function document_v1(keys, args)
  local stored = redis.call('GET', keys[1])
  local version = stored and cjson.decode(stored).version or 0
  if version > tonumber(args[1]) then return redis.error_reply('OLDER the store has version ' .. version) end
  redis.call('SET', keys[1], args[2])
  return redis.status_reply('OK')
end

-- Name a document's version in the list the vote API watches; a later one that stands there stays.
-- KEYS  campaigns ARGV  campaign, version      Returns OK.
local function announce_v1(keys, args)
  local version = tonumber(redis.call('HGET', keys[1], args[1]) or 0)
  if version < tonumber(args[2]) then redis.call('HSET', keys[1], args[1], args[2]) end
  return redis.status_reply('OK')
end

-- Whether the fields of an entry are those of this batch.
local function of_batch(fields, batch)
  for f = 1, #fields, 2 do
    if fields[f] == 'b' then return fields[f + 1] == batch end
  end
  return false
end

-- Remove committed entries. An entry goes only if it still carries the batch id that was committed: after a failover
-- another entry can wear the same id.
-- KEYS  stream    ARGV  pairs of entry id, batch id      Returns the number removed.
local function remove_v1(keys, args)
  local removed = 0
  for i = 1, #args, 2 do
    local found = redis.call('XRANGE', keys[1], args[i], args[i])[1]
    if found and of_batch(found[2], args[i + 1]) then
      removed = removed + redis.call('XDEL', keys[1], args[i])
    end
  end
  return removed
end

-- Remove committed entries as remove_v1 does, and keep them in another stream, by the instant of this.
-- KEYS  stream, kept    ARGV  the most entries kept, their life in seconds from the last one on, then pairs of
-- entry id, batch id    Returns the number removed.
local function keep_v1(keys, args)
  local kept = 0
  for i = 3, #args, 2 do
    local found = redis.call('XRANGE', keys[1], args[i], args[i])[1]
    if found and of_batch(found[2], args[i + 1]) then
      redis.call('XADD', keys[2], 'MAXLEN', '~', args[1], '*', unpack(found[2]))
      redis.call('XDEL', keys[1], args[i])
      kept = kept + 1
    end
  end
  if kept > 0 then redis.call('EXPIRE', keys[2], args[2]) end
  return kept
end

-- What a shard counts, and the likes that wait for the ledger, of one instant.
-- KEYS  counts, stream    ARGV  the most entries    Returns { HGETALL of counts, XRANGE of the oldest entries }.
local function view_v1(keys, args)
  return { redis.call('HGETALL', keys[1]), redis.call('XRANGE', keys[2], '-', '+', 'COUNT', args[1]) }
end

-- Returns this library's version, so that a server that runs another one is found out.
local function version_v1()
  return LIBRARY_VERSION
end

redis.register_function('like_v1', like_v1)
redis.register_function('open_v1', open_v1)
redis.register_function('document_v1', document_v1)
redis.register_function('announce_v1', announce_v1)
redis.register_function('keep_v1', keep_v1)
-- Closing and removing must work in a full store too: refusing likes and freeing memory is how it recovers.
redis.register_function{ function_name = 'clear_v1', callback = clear_v1, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'close_v1', callback = close_v1, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'remove_v1', callback = remove_v1, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'ungate_v1', callback = ungate_v1, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'view_v1', callback = view_v1, flags = { 'no-writes' } }
redis.register_function{ function_name = 'version_v1', callback = version_v1, flags = { 'no-writes' } }
