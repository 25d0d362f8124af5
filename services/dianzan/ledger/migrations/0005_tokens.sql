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

-- Tokens that an operator made, which no network's share has bounded.
CREATE TABLE minted (
    campaign smallint NOT NULL REFERENCES campaigns (number),
    minted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    voter_class smallint NOT NULL,
    tokens integer NOT NULL,
    PRIMARY KEY (campaign, minted_at)
);
