-- What workers find, so that neither a restart nor another worker forgets it.

-- Since when the ledger is known to hold likes that the store never took.
ALTER TABLE campaigns ADD COLUMN foreign_since timestamptz;

-- When a sealed campaign is to be compared with its seal again (null: at once), and how much differed the last time.
ALTER TABLE seals ADD COLUMN compare_after timestamptz, ADD COLUMN differences integer NOT NULL DEFAULT 0;
