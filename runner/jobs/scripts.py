"""The Lua scripts of the job store: every step that must be whole, or refused, happens inside Redis.

A coordinator's script gets its leader epoch first and refuses an older one. Keys and fields are those of
`runner.jobs.fields`.
"""

__all__ = [
    "BEAT",
    "BEGIN_GENERATION",
    "CLAIM",
    "CLOSE",
    "END_TASK",
    "LEAD",
    "RELEASE",
    "SEAL",
    "SUBMIT",
    "TRANSITION",
]

# ARGV: epoch.
CHECK_EPOCH = """
if redis.call('GET', 'runner:epoch') ~= ARGV[1] then return redis.error_reply('STALE_EPOCH') end
"""

# ARGV: epoch, milliseconds until it says so again at the latest.
# Only people are told of this: nothing is decided by it.
LEAD = (
    CHECK_EPOCH
    + """
redis.call('SET', 'runner:leader', ARGV[1], 'PX', ARGV[2])
"""
)

# KEYS: job, events. ARGV: id, reserved, event, then fields of the job.
# Jobs are in order by a counter, since the clocks of two clients differ, and one clock gives two jobs the same time.
# Sent again when its reply was lost, and then the holder is this very job.
SUBMIT = """
local holder = redis.call('HGET', 'runner:model_dirs', ARGV[2])
if holder == ARGV[1] then return '' end
if holder then return holder end
redis.call('HSET', 'runner:model_dirs', ARGV[2], ARGV[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
redis.call('RPUSH', KEYS[2], ARGV[3])
local number = redis.call('INCR', 'runner:submissions')
redis.call('ZADD', 'runner:jobs', number, ARGV[1])
redis.call('ZADD', 'runner:active', number, ARGV[1])
redis.call('PUBLISH', 'runner:wake', ARGV[1])
return ''
"""

# KEYS: job, events. ARGV: epoch, id, reserved, terminal ('1' or ''), event or '', then fields of the job.
# A terminal job never changes again; its model_dir is free for the next one. A job may wait, and try, for years.
TRANSITION = (
    CHECK_EPOCH
    + """
if not redis.call('ZSCORE', 'runner:active', ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 6))
if ARGV[5] ~= '' then
  redis.call('RPUSH', KEYS[2], ARGV[5])
  redis.call('LTRIM', KEYS[2], -1000, -1)
end
if ARGV[4] == '1' then
  redis.call('ZREM', 'runner:active', ARGV[2])
  local holder = redis.call('HGET', 'runner:model_dirs', ARGV[3])
  if holder == ARGV[2] then redis.call('HDEL', 'runner:model_dirs', ARGV[3]) end
end
return 1
"""
)

# KEYS: job, tasks of the generation before. ARGV: epoch, generation before, generation.
# Nothing of a new generation exists before this, and none begins while the last one may still have a writer: whoever
# asks for its lease from now on does not hold it.
BEGIN_GENERATION = (
    CHECK_EPOCH
    + """
if redis.call('HGET', KEYS[1], 'generation') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'generation', ARGV[3], 'closing', '', 'cluster', '')
redis.call('DEL', KEYS[2])
return 1
"""
)

# KEYS: job, tasks. ARGV: generation, place, claim.
CLAIM = """
if redis.call('HGET', KEYS[1], 'generation') ~= ARGV[1] then return 'generation is not current' end
if redis.call('HGET', KEYS[1], 'closing') == '1' then return 'generation is closing' end
if redis.call('HSETNX', KEYS[2], ARGV[2], ARGV[3]) == 0 then return 'place is taken' end
redis.call('HSET', KEYS[2], ARGV[2] .. '#lease', 1)
redis.call('PUBLISH', 'runner:wake', KEYS[1])
return ''
"""

# KEYS: job, tasks. ARGV: place, token, progress or ''.
# Returns {held, closing, cluster}. An older generation has no claims any more.
BEAT = """
local claim = redis.call('HGET', KEYS[2], ARGV[1])
if not claim or cjson.decode(claim)['token'] ~= ARGV[2] then return {'', '1', ''} end
if redis.call('HEXISTS', KEYS[2], ARGV[1] .. '#outcome') == 1 then return {'', '1', ''} end
redis.call('HINCRBY', KEYS[2], ARGV[1] .. '#lease', 1)
if ARGV[3] ~= '' then redis.call('HSET', KEYS[2], ARGV[1] .. '#progress', ARGV[3]) end
return {'1', redis.call('HGET', KEYS[1], 'closing'), redis.call('HGET', KEYS[1], 'cluster')}
"""

# KEYS: tasks. ARGV: place, token, outcome.
RELEASE = """
local claim = redis.call('HGET', KEYS[1], ARGV[1])
if not claim or cjson.decode(claim)['token'] ~= ARGV[2] then return 0 end
redis.call('HSETNX', KEYS[1], ARGV[1] .. '#outcome', ARGV[3])
redis.call('PUBLISH', 'runner:wake', KEYS[1])
return 1
"""

# KEYS: job, tasks. ARGV: epoch, place, outcome.
END_TASK = (
    CHECK_EPOCH
    + """
return redis.call('HSETNX', KEYS[2], ARGV[2] .. '#outcome', ARGV[3])
"""
)

# KEYS: job. ARGV: epoch, generation, cluster.
SEAL = (
    CHECK_EPOCH
    + """
if redis.call('HGET', KEYS[1], 'generation') ~= ARGV[2] then return 0 end
if redis.call('HGET', KEYS[1], 'closing') == '1' then return 0 end
redis.call('HSET', KEYS[1], 'cluster', ARGV[3])
return 1
"""
)

# KEYS: job. ARGV: epoch, generation.
CLOSE = (
    CHECK_EPOCH
    + """
if redis.call('HGET', KEYS[1], 'generation') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'closing', '1')
return 1
"""
)
