"""Every bound of the system in one block, with unit and reason; relations between them are asserted below."""

from __future__ import annotations

from typing import Final

# A like request.
BODY_BYTES_MAX: Final = 16 * 1024  # 255 codes of 32 characters and a token are under 10 KB
CANDIDATES_PER_BALLOT_MAX: Final = 255  # the wire counts a ballot's candidates in one byte
LIKES_PER_WINDOW_MAX: Final = 255

# A connection, of any service. What is in front has shorter ones: these are for who reaches the process itself.
HEAD_BYTES_MAX: Final = 32 * 1024  # as nginx's four buffers of 8 KB
URL_BYTES_MAX: Final = 8 * 1024
HEADERS_MAX: Final = 100
MESSAGE_BYTES_MAX: Final = 1024**2  # of a body too large to be answered what is read before the connection is cut
ARRIVAL_S_MAX: Final = 15.0  # from a request's first byte, or the connection's begin, to its last; usual are 0.1 s
PARSED_BYTES_MAX: Final = 4 * 1024  # between two looks at whether a request waits: 150 of the smallest, 0.6 MB

# A campaign.
CANDIDATES_MAX: Final = 5_000
SHARDS_MAX: Final = 256
PUBLISHERS_MAX: Final = 1_000
ORIGINS_PER_PUBLISHER_MAX: Final = 20  # a site's hosts; each is compared with a request's Origin
CAMPAIGN_DAYS_MAX: Final = 400  # one ledger partition a day
TOKEN_LIFE_S: Final = 4 * 86_400  # from its making, so three days past its window; then its holder has it renewed
EXPECTED_VOTERS_MAX: Final = 2_000_000_000
VOTERS_PER_BUCKET: Final = 100  # keeps a bucket a listpack (limit 512 fields) with room for a wrong estimate

# The batcher.
LIKES_PER_CALL_MAX: Final = 256  # a call blocks the store: 256 likes are about 1 ms
BALLOTS_PER_BATCH_MIN: Final = 64  # of a longer queue half travels, so that the process has work meanwhile
BALLOTS_PER_BATCH_MAX: Final = 4_096  # bounds the pipeline's bytes and what one lost connection leaves unknown
LIKES_PER_BATCH_MAX: Final = 16_384  # 64 full calls, about 0.1 s of the store: far from its time-out
BALLOTS_QUEUED_MAX: Final = 20_000  # about 1 s of one process at full speed; beyond it 503
STORE_TIMEOUT_S: Final = 3.0  # then the batch is "unknown" and the connection is dropped; a dead link costs 6 s
REPLICA_WAIT_MS: Final = 1_000  # for a replica's word, and again for its disk's: usual are 1 ms; then "unknown"
REPLICA_LAG_S_MAX: Final = 3  # replicas report every second
CLOCK_SKEW_MS_MAX: Final = 5_000  # sender against store; beyond it a like might land in the wrong day
STORE_FULL_SHARE: Final = 0.85  # of memory or disk; then likes are refused, so that flushing and closing have room
BACKLOG_BYTES_MAX: Final = 2 * 1024**3  # streams of one server: an hour without Postgres at 15,000 likes/s of 35 bytes

# The worker.
ENTRIES_PER_FLUSH_MAX: Final = 512  # a page of the stream; more entries than a full flush has calls
LIKES_PER_FLUSH_MAX: Final = 20_000  # one transaction, and one COPY a window; about 0.2 s of Postgres
LIKES_PER_S_INSERTED: Final = 100_000  # by one flush at the least, measured in partitions of 27 million rows
SHARD_LOCK_WAIT_S: Final = 1.0  # of a comparison, for the flush of another worker
KEPT_ENTRIES_MAX: Final = 65_536  # of a shard; bounds memory where store and ledger cannot be compared for long
KEPT_STORE_SHARE: Final = 0.75  # of memory; beyond it nothing is kept, well before likes are refused
KEPT_PER_READ: Final = LIKES_PER_FLUSH_MAX // LIKES_PER_CALL_MAX  # 78 entries: at most the likes of one flush
KEPT_S_MAX: Final = 86_400  # a ledger that lags a day is restored by hand
KEPT_LIFE_S: Final = 7 * 86_400  # after the last like of a shard; nobody will miss it then
SHARDS_AT_ONCE: Final = 2  # a worker reads and packs one shard's likes while Postgres inserts another's
POSTGRES_TIMEOUT_S: Final = 15.0  # thirty times the longest usual query; a dead link costs it once or twice
VOTERS_PER_RESTORE_STEP: Final = 2_000  # one pipeline of marks; bounds memory, not speed
MARKS_STAND_DAYS: Final = 7  # dedup marks outlive their window by this; nobody can vote in it any more

# The results API.
SNAPSHOT_EVERY_S: Final = 0.25  # promised: at least every second; 1 ms of CPU here where nothing has changed
STREAMS_MAX: Final = 20_000  # server-sent-event readers of one process
STREAMS_SHARE: Final = 1 / 20  # of them, for one address: a campus behind one reads by asking above it
TOKENS_MINTED_MAX: Final = 5_000_000  # one `dianzan token --count`

assert URL_BYTES_MAX < HEAD_BYTES_MAX  # noqa: S101
assert HEAD_BYTES_MAX + BODY_BYTES_MAX < MESSAGE_BYTES_MAX  # noqa: S101
assert LIKES_PER_CALL_MAX >= CANDIDATES_PER_BALLOT_MAX  # noqa: S101 a ballot is never split
assert BALLOTS_PER_BATCH_MAX <= BALLOTS_QUEUED_MAX  # noqa: S101
assert ENTRIES_PER_FLUSH_MAX * LIKES_PER_CALL_MAX >= LIKES_PER_FLUSH_MAX  # noqa: S101
assert SHARD_LOCK_WAIT_S >= 5 * LIKES_PER_FLUSH_MAX / LIKES_PER_S_INSERTED  # noqa: S101
assert KEPT_S_MAX < KEPT_LIFE_S  # noqa: S101
assert KEPT_STORE_SHARE < STORE_FULL_SHARE  # noqa: S101
assert 2 * REPLICA_WAIT_MS < STORE_TIMEOUT_S * 1_000  # noqa: S101 WAIT, then WAITAOF
