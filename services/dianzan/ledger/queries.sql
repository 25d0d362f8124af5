-- The named queries of the Postgres edge; a method of one of its classes calls each by its name.

-- name: now
SELECT clock_timestamp();

-- name: lag
-- Seconds by which this server's data is behind its primary's: 0 of a primary, and of a standby that has replayed all
-- that it has received and is connected. Otherwise the age of what it replayed last, or of its own start.
SELECT CASE
    WHEN NOT pg_is_in_recovery() THEN 0
    WHEN EXISTS (SELECT 1 FROM pg_stat_wal_receiver) AND pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
    ELSE extract(epoch FROM clock_timestamp() - coalesce(pg_last_xact_replay_timestamp(), pg_postmaster_start_time()))
END::float8;

-- name: campaign
-- One campaign with all its columns.
SELECT number, id, rules, version, state, width, secret, swept_through, foreign_since
FROM campaigns WHERE id = $1;

-- name: campaigns
-- All campaigns, oldest first, without their keys: the results API asks this, and its role may not read a key.
SELECT number, id, rules, version, state, width, NULL::bytea AS secret, swept_through, foreign_since
FROM campaigns ORDER BY number;

-- name: set_foreign
-- Since when, kept while it is true.
UPDATE campaigns SET foreign_since = CASE WHEN $2 THEN coalesce(foreign_since, now()) END
WHERE number = $1 AND (foreign_since IS NOT NULL) <> $2;

-- name: outlive_idle
-- This transaction waits for work on other connections, or for a slow reader: a server that ends idle transactions
-- (60 s in the settings we ship) would end a seal of 250 million likes.
SET LOCAL idle_in_transaction_session_timeout = 0;

-- name: hour_in_zone
-- What every flush asks of a campaign's zone.
SELECT date_trunc('hour', now(), $1);

-- name: limit_lock_wait
SET LOCAL lock_timeout = '{seconds}s';

-- name: lock_campaign
-- Serialise steps in one campaign's life: create, import, publish, close, seal, restore.
-- Advisory locks are of a whole database: the schema tells two installations in it apart, as 0 in the schema public,
-- whose oid is 2200 everywhere. So workers of before and after agree on a lock.
SELECT pg_advisory_xact_lock(
    hashtext('dianzan.campaign') # (SELECT (relnamespace::bigint - 2200) % 2147483648 FROM pg_class WHERE oid = 'likes'::regclass)::integer,
    hashtext($1)
);

-- name: insert_campaign
INSERT INTO campaigns (id, rules, secret) VALUES ($1, $2, $3) RETURNING number;

-- name: update_rules
UPDATE campaigns SET rules = $2, version = version + 1 WHERE id = $1;

-- name: set_published
UPDATE campaigns
SET state = 'published', width = $2, version = version + 1, published_at = coalesce(published_at, now())
WHERE id = $1
RETURNING version;

-- name: set_closed
UPDATE campaigns
SET state = 'closed', version = version + 1, closed_at = coalesce(closed_at, now()), ended_early = $2
WHERE id = $1 AND state = 'published';

-- name: set_sealed
UPDATE campaigns SET state = 'sealed', version = version + 1 WHERE number = $1;

-- name: set_swept
UPDATE campaigns SET swept_through = $2 WHERE number = $1;

-- name: candidates
SELECT candidate, code, name, kind, district, category, summary, story, photo
FROM candidates WHERE campaign = $1 ORDER BY candidate;

-- name: upsert_candidate
-- A code keeps its index; everything else of a candidate may be corrected.
INSERT INTO candidates (campaign, candidate, code, name, kind, district, category, summary, story, photo)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (campaign, code) DO UPDATE
SET name = excluded.name, kind = excluded.kind, district = excluded.district, category = excluded.category,
    summary = excluded.summary, story = excluded.story, photo = excluded.photo;

-- name: insert_roster_change
INSERT INTO roster_changes (campaign, code, field, before, after) VALUES ($1, $2, $3, $4, $5);

-- name: roster_changes
-- What was changed while the campaign ran, in the order of time.
SELECT changed_at, code, field, before, after FROM roster_changes
WHERE campaign = $1 ORDER BY changed_at, code, field;

-- name: insert_minted
INSERT INTO minted (campaign, voter_class, tokens) VALUES ($1, $2, $3);

-- name: minted
SELECT coalesce(sum(tokens), 0)::bigint FROM minted WHERE campaign = $1;

-- name: revocations
-- In the order in which they were made; those that are undone too.
SELECT revocations.number, voter_class, publisher, extract(epoch FROM made_from)::bigint AS made_from_s,
    extract(epoch FROM made_until)::bigint AS made_until_s, revoked_at, reason, undone_at,
    coalesce(publishers.code, '') AS code
FROM revocations LEFT JOIN publishers
    ON publishers.campaign = revocations.campaign AND publishers.number = revocations.publisher
WHERE revocations.campaign = $1 ORDER BY revocations.number;

-- name: insert_revocation
-- Returns nothing where the number is taken.
INSERT INTO revocations (campaign, number, voter_class, publisher, made_from, made_until, reason)
VALUES (
    $1, coalesce($2, (SELECT coalesce(max(number), 0) + 1 FROM revocations WHERE campaign = $1)), $3, $4,
    to_timestamp($5::bigint), to_timestamp($6::bigint), $7
)
ON CONFLICT DO NOTHING RETURNING number;

-- name: undo_revocation
UPDATE revocations SET undone_at = now() WHERE campaign = $1 AND number = $2 AND undone_at IS NULL RETURNING number;

-- name: publishers
-- In the order of their numbers, which likes name them by.
SELECT number, code, name, origins FROM publishers WHERE campaign = $1 ORDER BY number;

-- name: upsert_publisher
-- A code keeps its number; name and origins may be corrected.
INSERT INTO publishers (campaign, number, code, name, origins)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (campaign, code) DO UPDATE SET name = excluded.name, origins = excluded.origins;

-- name: pass_version
UPDATE campaigns SET version = $2 + 1 WHERE id = $1 AND version < $2 RETURNING version;

-- name: bump_version
UPDATE campaigns SET version = version + 1 WHERE number = $1;

-- name: lock_shard
-- True where no other worker flushes this shard now. It saves double work; correctness does not need it.
SELECT pg_try_advisory_xact_lock(
    $1::integer # (SELECT (relnamespace::bigint - 2200) % 2147483648 FROM pg_class WHERE oid = 'likes'::regclass)::integer, $2
);

-- name: wait_for_shard
SELECT pg_advisory_xact_lock(
    $1::integer # (SELECT (relnamespace::bigint - 2200) % 2147483648 FROM pg_class WHERE oid = 'likes'::regclass)::integer, $2
);

-- name: partition_schema
-- The schema of this ledger's partition of that name; NULL if there is none. One that was detached, or is of another
-- installation in the same database, is none: nothing in it would be counted.
SELECT relnamespace::regnamespace::text
FROM pg_class JOIN pg_inherits ON inhrelid = pg_class.oid
WHERE relname = $1 AND inhparent = 'likes'::regclass;

-- name: create_staging
-- Of this transaction alone: behind a pooler the next one may be on another session.
CREATE TEMPORARY TABLE IF NOT EXISTS staging (LIKE likes) ON COMMIT DROP;

-- name: insert_staged
-- Insert the staged likes, some of which are known; the new ones, by what the counts tell apart.
-- Sorted by the key so that neighbouring index entries are written together.
-- Only the identity may conflict: any other unique index must refuse loudly, never drop a like.
WITH inserted AS (
    INSERT INTO likes (liked_at, window_day, network, campaign, candidate, publisher, voter_class, voter)
    SELECT liked_at, window_day, network, campaign, candidate, publisher, voter_class, voter
    FROM pg_temp.staging
    ORDER BY campaign, window_day, voter, candidate
    ON CONFLICT (campaign, window_day, candidate, voter) DO NOTHING
    RETURNING candidate, liked_at
)
SELECT candidate, liked_at, count(*) AS likes FROM inserted GROUP BY candidate, liked_at;

-- name: count_new
-- Add likes that this transaction inserted: $3 candidates, $4 likes of each, $5 instants, $6 likes of each.
-- Hours are of the campaign's own zone, since a zone with a half-hour offset begins its days within a UTC hour.
WITH counted AS (
    INSERT INTO counts AS c (campaign, candidate, shard, likes)
    SELECT $1, candidate, $2, likes
    FROM unnest($3::smallint[], $4::bigint[]) AS new (candidate, likes) ORDER BY candidate
    ON CONFLICT (campaign, candidate, shard) DO UPDATE SET likes = c.likes + excluded.likes
)
INSERT INTO hours AS h (campaign, hour, shard, likes)
SELECT $1, date_trunc('hour', liked_at, rules ->> 'timezone'), $2, sum(likes)
FROM unnest($5::timestamptz[], $6::bigint[]) AS new (liked_at, likes) JOIN campaigns ON campaigns.number = $1
GROUP BY 2 ORDER BY 2
ON CONFLICT (campaign, hour, shard) DO UPDATE SET likes = h.likes + excluded.likes;

-- name: estimate_people
-- HyperLogLogs only grow, so the greater estimate is the later one.
INSERT INTO people_estimates AS p (campaign, shard, candidate, people)
SELECT $1, $2, candidate, people FROM unnest($3::smallint[], $4::bigint[]) AS new (candidate, people)
ON CONFLICT (campaign, candidate, shard) DO UPDATE SET people = greatest(p.people, excluded.people);

-- name: tallies
-- Likes and estimated people per campaign and candidate, by the counts; candidates x shards rows a campaign are read.
SELECT campaign, candidate, sum(likes)::bigint AS likes, sum(people)::bigint AS people
FROM (
    SELECT campaign, candidate, likes, 0 AS people FROM counts
    UNION ALL
    SELECT campaign, candidate, 0, people FROM people_estimates
) AS both_numbers
GROUP BY campaign, candidate;

-- name: hours
SELECT hour, sum(likes)::bigint AS likes FROM hours WHERE campaign = $1 GROUP BY hour ORDER BY hour;

-- name: recount_ledger
-- Rows of the ledger per candidate.
SELECT candidate, count(*) AS likes FROM likes WHERE campaign = $1 GROUP BY candidate ORDER BY candidate;

-- name: recount_identities
-- Distinct identities per candidate, counted without trusting the primary key.
SELECT candidate, count(*) AS likes
FROM (SELECT DISTINCT window_day, voter, candidate FROM likes WHERE campaign = $1) AS identities
GROUP BY candidate ORDER BY candidate;

-- name: recount_counts
SELECT candidate, sum(likes)::bigint AS likes FROM counts WHERE campaign = $1 GROUP BY candidate ORDER BY candidate;

-- name: recount_people
-- Distinct voters per candidate; candidate 0 is the whole campaign.
SELECT candidate, count(DISTINCT voter) AS people FROM likes WHERE campaign = $1 GROUP BY candidate
UNION ALL
SELECT 0, count(DISTINCT voter) FROM likes WHERE campaign = $1
ORDER BY 1;

-- name: recount_strays
-- Likes of no known candidate, publisher, class ($2) and window ($3).
SELECT count(*) FILTER (WHERE candidates.candidate IS NULL),
    count(*) FILTER (WHERE publisher <> 0 AND publishers.number IS NULL),
    count(*) FILTER (WHERE voter_class <> ALL ($2::smallint[])),
    count(*) FILTER (WHERE window_day <> ALL ($3::date[]))
FROM likes
LEFT JOIN candidates ON candidates.campaign = likes.campaign AND candidates.candidate = likes.candidate
LEFT JOIN publishers ON publishers.campaign = likes.campaign AND publishers.number = likes.publisher
WHERE likes.campaign = $1;

-- name: recount_over_quota
-- Voters with more than $2 likes in a window.
SELECT count(*)
FROM (SELECT 1 FROM likes WHERE campaign = $1 GROUP BY window_day, voter HAVING count(*) > $2) AS over_quota;

-- name: recount_hours
-- Likes by which the hours of the timeline differ from the rows, of one instant; $2 is the campaign's time zone.
SELECT coalesce(sum(abs(coalesce(told.likes, 0) - coalesce(counted.likes, 0))), 0)::bigint
FROM (SELECT hour, sum(likes) AS likes FROM hours WHERE campaign = $1 GROUP BY hour) AS told
FULL JOIN (
    SELECT date_trunc('hour', liked_at, $2) AS hour, count(*) AS likes FROM likes WHERE campaign = $1 GROUP BY 1
) AS counted USING (hour);

-- name: clear_counts
DELETE FROM counts WHERE campaign = $1;

-- name: clear_hours
DELETE FROM hours WHERE campaign = $1;

-- name: recount_into_counts
-- A voter's shard is the first four bytes of its hash, modulo their number $2.
INSERT INTO counts (campaign, candidate, shard, likes)
SELECT campaign, candidate, ('x' || encode(substr(voter, 1, 4), 'hex'))::bit(32)::bigint % $2::bigint AS shard, count(*)
FROM likes WHERE campaign = $1 GROUP BY 1, 2, 3;

-- name: recount_into_hours
INSERT INTO hours (campaign, hour, shard, likes)
SELECT likes.campaign, date_trunc('hour', liked_at, rules ->> 'timezone'),
    ('x' || encode(substr(voter, 1, 4), 'hex'))::bit(32)::bigint % $2::bigint AS shard, count(*)
FROM likes JOIN campaigns ON campaigns.number = likes.campaign WHERE likes.campaign = $1 GROUP BY 1, 2, 3;

-- name: claim_comparison
-- For one worker, a day after the last time, or ten minutes where something differed then. An hour later another one may,
-- should this one never tell what it found; 250 million likes take minutes.
UPDATE seals SET compare_after = now() + interval '1 hour'
WHERE campaign = $1 AND (compare_after IS NULL OR compare_after < now())
RETURNING campaign;

-- name: set_differences
UPDATE seals
SET differences = $2, compare_after = now() + CASE WHEN $2 > 0 THEN interval '10 minutes' ELSE interval '1 day' END
WHERE campaign = $1;

-- name: differences
SELECT differences FROM seals WHERE campaign = $1;

-- name: insert_seal
INSERT INTO seals (campaign, sealed_at, likes, people, digest, parts) VALUES ($1, $2, $3, $4, $5, $6);

-- name: transaction_time
SELECT now();

-- name: stored_rules
-- As they stand, with what this release does not know.
SELECT rules FROM campaigns WHERE number = $1;

-- name: insert_sealed_tally
INSERT INTO sealed_tallies (campaign, candidate, rank, likes, people) VALUES ($1, $2, $3, $4, $5);

-- name: seal
SELECT sealed_at, likes, people, digest, parts FROM seals WHERE campaign = $1;

-- name: sealed_tally
SELECT candidate, rank, likes, people FROM sealed_tallies WHERE campaign = $1 ORDER BY rank, candidate;

-- name: record
-- Every like, candidate by candidate of each window: for the public record, which orders them further by receipt.
SELECT window_day, candidate, voter FROM likes WHERE campaign = $1 ORDER BY window_day, candidate;

-- name: shard_counts
SELECT shard, candidate, likes FROM counts WHERE campaign = $1;

-- name: counts_of_shard
SELECT candidate, likes FROM counts WHERE campaign = $1 AND shard = $2;

-- name: voters
-- What each voter liked in one window, in the order of liking.
SELECT voter, array_agg(candidate ORDER BY liked_at, candidate) AS candidates
FROM likes WHERE campaign = $1 AND window_day = $2 GROUP BY voter;

-- name: has_likes
SELECT EXISTS (SELECT 1 FROM likes WHERE campaign = $1);

-- name: create_partition
-- One partition a campaign and window; the names and bounds are numbers and dates of our own. It stands in the schema
-- of its ledger, and a table of that name there which is no partition of it refuses this.
CREATE TABLE {schema}.{name} PARTITION OF likes FOR VALUES FROM ({campaign}, '{day}') TO ({campaign}, '{next_day}');

-- name: ledger_schema
-- The schema that this installation's tables stand in, quoted.
SELECT quote_ident(nspname)
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE pg_class.oid = 'likes'::regclass;

-- name: migrations_table
CREATE TABLE IF NOT EXISTS migrations (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now());

-- name: lock_migrations
SELECT pg_advisory_xact_lock(hashtext('dianzan.migrations'));

-- name: server_encoding
SHOW server_encoding;

-- name: migrations_applied
-- By way of JSON, since a database of before has no digests and may have no such column.
SELECT name, to_jsonb(migrations) ->> 'digest' AS digest FROM migrations ORDER BY name;

-- name: record_migration
INSERT INTO migrations (name) VALUES ($1);

-- name: record_digest
-- Also of what was applied before digests were kept.
UPDATE migrations SET digest = $2 WHERE name = $1 AND digest IS NULL;

-- name: quoted
SELECT quote_ident($1);

-- name: quoted_text
SELECT quote_literal($1);

-- name: role_exists
SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1);

-- name: create_role
CREATE ROLE {role} LOGIN;

-- name: set_password
ALTER ROLE {role} PASSWORD {password};

-- name: grant_reader
-- What the results API reads. Of the campaigns every column that it asks for, and not their keys; of the likes nothing.
GRANT USAGE ON SCHEMA {schema} TO {role};
GRANT SELECT (number, id, rules, version, state, width, swept_through, foreign_since) ON {schema}.campaigns TO {role};
GRANT SELECT ON
    {schema}.migrations, {schema}.candidates, {schema}.publishers, {schema}.counts, {schema}.hours,
    {schema}.people_estimates, {schema}.seals, {schema}.sealed_tallies
TO {role};
