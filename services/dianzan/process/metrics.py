"""Every metric of every process: name, meaning, and what to do when it moves.

/metrics must not be public: dianzan_likes_total and dianzan_flushed_likes_total tell the totals of hidden campaigns.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

# ---- vote API ----------------------------------------------------------------------------------------------

LIKES = Counter(
    "dianzan_likes_total",
    "Likes decided by the store, by status. A rising share of already_liked is retries or scripts. Not for the public: "
    "it tells the totals of hidden campaigns.",
    ["campaign", "status"],
)
REQUESTS = Counter(
    "dianzan_like_requests_total",
    "Like requests answered, by problem code ('ok' for 200). Rising 503 codes: look at the store first.",
    ["code"],
)
REQUEST_SECONDS = Histogram(
    "dianzan_like_seconds",
    "Time from a like request's body to its answer. p99 above 0.1 s: the store's disk or the batch size.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)
BATCH_BALLOTS = Histogram(
    "dianzan_batch_ballots",
    "Ballots in one pipeline to the store. Near the limit of 4096: add vote API processes or store nodes.",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 4096),
)
BATCH_SECONDS = Histogram(
    "dianzan_batch_seconds",
    "Time a pipeline took, fsync included. Rising: the store's disk.",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)
QUEUE_BALLOTS = Gauge(
    "dianzan_queue_ballots",
    "Ballots waiting for the next pipeline. Steadily above 0.5 of 20000: overload is near.",
)
TOKENS = Counter(
    "dianzan_tokens_total",
    "Voter tokens given, by outcome. Rising 'limited': one network asks for more than its share.",
    ["outcome"],
)
STORE_SAFE = Gauge(
    "dianzan_store_safe",
    "1 while the store keeps the promise, 0 while likes are refused or the promise is waived. 0: read /readyz.",
)
STORE_ATTESTED = Gauge(
    "dianzan_store_attested",
    "Store servers whose settings cannot be read and are as their operator says. Rising: a server hides what it told.",
)
STORE_MEMORY_SHARE = Gauge(
    "dianzan_store_memory_share",
    "Memory a store server uses, of its limit (0 to 1). Likes are refused from 0.85 on: give it more, or find out why "
    "nothing is flushed.",
    ["server"],
)
STORE_DISK_SHARE = Gauge(
    "dianzan_store_disk_share",
    "Use of the store's disk (0 to 1), where this process can see it. Likes are refused from 0.85 on.",
)
BACKLOG_BYTES = Gauge(
    "dianzan_backlog_bytes",
    "Bytes of the streams on a store server. Likes are refused from DIANZAN_BACKLOG_BYTES_MAX on: worker or Postgres.",
    ["server"],
)
CAMPAIGN_VERSION = Gauge(
    "dianzan_campaign_version",
    "Version of the campaign document this process serves. Differing between processes for over 5 s: the store.",
    ["campaign"],
)
CAMPAIGN_OPEN = Gauge(
    "dianzan_campaign_open",
    "1 while the campaign is between its opening and its end, otherwise 0. Likes that stop while it is 1: the door.",
    ["campaign"],
)

# ---- tally worker ------------------------------------------------------------------------------------------

FLUSHED = Counter(
    "dianzan_flushed_likes_total",
    "Likes committed to the ledger, by outcome: inserted, or duplicate (read again after a crash or takeover). Not for "
    "the public: it tells the totals of hidden campaigns.",
    ["campaign", "outcome"],
)
FLUSH_SECONDS = Histogram(
    "dianzan_flush_seconds",
    "Time of one flush of one shard that had likes. Rising: Postgres.",
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
BACKLOG = Gauge(
    "dianzan_backlog_entries",
    "Stream entries not yet committed, all shards. Rising for a minute: worker or Postgres down; nothing is lost.",
    ["campaign"],
)
BACKLOG_AGE_SECONDS = Gauge(
    "dianzan_backlog_age_seconds",
    "Age of the oldest like not yet committed. Above 2: the promise of visible results is broken.",
    ["campaign"],
)
FLUSH_ERRORS = Counter(
    "dianzan_flush_errors_total",
    "Flushes that ended in an error and will be done again, by kind. Steady: read the worker's log.",
    ["kind"],
)
ROUND_TIMESTAMP = Gauge(
    "dianzan_round_timestamp_seconds",
    "Unix time of the last round over all shards that succeeded. Over 5 s ago: Postgres or the store is away; the "
    "other worker gauges stand still meanwhile.",
)
DRIFT = Gauge(
    "dianzan_drift_likes",
    "Likes by which the store's counters differ from the ledger and the streams, by direction. behind: the store has "
    "lost likes; those shards refuse and are rebuilt. ahead: the ledger has lost rows; foreign: it holds rows that the "
    "store never took. See deploy/README.md for both.",
    ["campaign", "direction"],
)
REPAIRED = Counter(
    "dianzan_repaired_shards_total",
    "Shards rebuilt from the ledger since they were behind it. If above 0, find out why the store has lost likes.",
    ["campaign"],
)
PUT_BACK = Counter(
    "dianzan_put_back_likes_total",
    "Likes that the ledger had lost and the store still kept, put back. Any: PostgreSQL came back older; find out why.",
    ["campaign"],
)
RECONCILED_TIMESTAMP = Gauge(
    "dianzan_reconciled_timestamp_seconds",
    "Unix time of the last comparison of store and ledger over all campaigns. Over 5 min ago: one of them is away.",
)
SEAL_DIFFERENCES = Gauge(
    "dianzan_seal_differences",
    "What a sealed campaign's tables give otherwise than its seal, by the comparison of each day. Above 0: somebody "
    "has changed them; dianzan recount names everything.",
    ["campaign"],
)
UNDECODABLE = Gauge(
    "dianzan_undecodable_entries",
    "Stream entries this version cannot read; they stay in the stream. Above 0: a newer vote API runs.",
    ["campaign"],
)
BUCKET_FILL = Gauge(
    "dianzan_bucket_fill",
    "Fields in a sampled bucket of the current window. Above 512 a bucket leaves its compact form: raise shards or "
    "expected_voters in the next campaign.",
    ["campaign"],
)

# ---- results API -------------------------------------------------------------------------------------------

SNAPSHOT_AGE_SECONDS = Gauge(
    "dianzan_snapshot_age_seconds",
    "Age of the counts being served. Above 2: Postgres; the last counts go on being served.",
)
SNAPSHOT_SECONDS = Histogram(
    "dianzan_snapshot_seconds",
    "Time to read and render all campaigns. Above 0.5: the promise of a refresh a second is near its end.",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)
READS = Counter(
    "dianzan_reads_total",
    "Results requests by kind of document.",
    ["document"],
)
STREAMS = Gauge(
    "dianzan_streams",
    "Open server-sent-event readers. Near 20000: add results API processes.",
)
PUBLISHED_LIKES = Gauge(
    "dianzan_published_likes",
    "Likes in the snapshot, of campaigns whose results are public.",
    ["campaign"],
)

# ---- the life of a campaign's series -----------------------------------------------------------------------

# Of the worker, while a campaign takes likes or drains: the last value would stand for ever, and page for ever.
OF_A_RUNNING_CAMPAIGN: Final = (BACKLOG, BACKLOG_AGE_SECONDS, UNDECODABLE, BUCKET_FILL, DRIFT)
# An alert on the growth of a counter does not see what it is born with, so that it must be born at 0.
_FROM_THE_START: Final = (REPAIRED, PUT_BACK)


def begin(campaign: str) -> None:
    """Show a campaign's counters that alerts watch for growth, at 0 until something happens."""
    for counter in _FROM_THE_START:
        counter.labels(campaign)


def forget(campaign: str) -> None:
    """Remove what only a running campaign has; again, or of one never seen, changes nothing."""
    for gauge in OF_A_RUNNING_CAMPAIGN:
        gauge.remove_by_labels({"campaign": campaign})
