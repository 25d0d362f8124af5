-- Bytes of a campaign's rows and of their indexes.
SELECT sum(pg_table_size(oid))::bigint AS rows, sum(pg_indexes_size(oid))::bigint AS indexes
FROM pg_class JOIN pg_inherits ON inhrelid = oid
WHERE inhparent = 'likes'::regclass AND relname LIKE 'likes\_' || $1::smallint || '\_%';
