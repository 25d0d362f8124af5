-- What a rehearsal asks of its own Postgres, and nobody else does.

-- name: recount_windows
-- Rows of the ledger per window and candidate.
SELECT window_day, candidate, count(*) AS likes FROM likes WHERE campaign = $1 GROUP BY window_day, candidate;

-- name: size_on_disk
-- Bytes of a campaign's rows and of their indexes.
SELECT sum(pg_table_size(oid))::bigint AS rows, sum(pg_indexes_size(oid))::bigint AS indexes
FROM pg_class JOIN pg_inherits ON inhrelid = oid
WHERE inhparent = 'likes'::regclass AND relname LIKE 'likes\_' || $1::smallint || '\_%';

-- name: server_version
SELECT current_setting('server_version');
