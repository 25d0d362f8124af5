-- Since when the ledger is known to hold likes that the store never took; a restart of the store must not forget it.

ALTER TABLE campaigns ADD COLUMN foreign_since timestamptz;
