-- What workers find, so that neither a restart nor another worker forgets it.

-- Since when the ledger is known to hold likes that the store never took.
ALTER TABLE campaigns ADD COLUMN foreign_since timestamptz;

-- When a worker last began to compare a sealed campaign with its seal, and how much differed then.
ALTER TABLE seals ADD COLUMN compared_at timestamptz, ADD COLUMN differences integer NOT NULL DEFAULT 0;
