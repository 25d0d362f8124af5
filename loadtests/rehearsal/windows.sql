-- Rows of the ledger per window and candidate.
SELECT window_day, candidate, count(*) AS likes FROM likes WHERE campaign = $1 GROUP BY window_day, candidate;
