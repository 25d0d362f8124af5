-- Tokens that are no longer taken, by what they say. A row is never removed: one that is undone says when.

CREATE TABLE revocations (
    campaign smallint NOT NULL REFERENCES campaigns (number),
    number smallint NOT NULL,
    revoked_at timestamptz NOT NULL DEFAULT now(),
    reason text NOT NULL,
    -- Null: of any class, of any publisher, made at any time.
    voter_class smallint,
    publisher smallint,
    made_from timestamptz,
    made_until timestamptz,
    undone_at timestamptz,
    PRIMARY KEY (campaign, number)
);
