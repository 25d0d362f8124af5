-- What was applied, what was sealed and why a campaign ended early can be shown later.

ALTER TABLE migrations ADD COLUMN digest text;

-- SHA-256 of the canonical document of what was sealed, and of each of its parts; NULL in seals of before.
ALTER TABLE seals ADD COLUMN digest text, ADD COLUMN parts jsonb;

-- Why the operator ended the campaign before `closes`.
ALTER TABLE campaigns ADD COLUMN ended_early text;
