-- Campaigns, their rosters, the ledger of likes, the counts kept beside it, and the sealed tallies.

CREATE TABLE campaigns (
    number smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text NOT NULL UNIQUE,
    rules jsonb NOT NULL,
    -- Raised by every change that the vote API must learn of.
    version integer NOT NULL DEFAULT 1,
    state text NOT NULL DEFAULT 'draft',
    -- Bytes of a candidate index in the store; fixed at first publication.
    width smallint,
    -- Without this secret nobody, not even the operator, can link a voter to a like.
    secret bytea,
    published_at timestamptz,
    closed_at timestamptz,
    -- Last window whose dedup marks the worker removed from the store.
    swept_through date,
    CONSTRAINT campaign_state_is_known CHECK (state IN ('draft', 'published', 'closed', 'sealed')),
    CONSTRAINT campaign_width_is_one_or_two CHECK (width IN (1, 2)),
    CONSTRAINT campaign_secret_has_32_bytes CHECK (octet_length(secret) = 32)
);

CREATE TABLE candidates (
    campaign smallint NOT NULL REFERENCES campaigns (number),
    -- What a like holds; given once in order of import and never changed.
    candidate smallint NOT NULL,
    code text NOT NULL,
    name text NOT NULL,
    kind text NOT NULL,
    district text NOT NULL,
    category text NOT NULL,
    summary text NOT NULL,
    story text NOT NULL,
    photo text NOT NULL,
    PRIMARY KEY (campaign, candidate),
    CONSTRAINT candidate_code_is_unique_in_its_campaign UNIQUE (campaign, code),
    CONSTRAINT candidate_index_starts_at_one CHECK (candidate >= 1),
    CONSTRAINT candidate_kind_is_known CHECK (kind IN ('person', 'team'))
);

-- The ledger: a like is its identity, so the same like can never stand here twice.
-- Columns are ordered by size so that a row is 40 bytes of data without padding.
CREATE TABLE likes (
    liked_at timestamptz NOT NULL,
    -- First local date of the voting window.
    window_day date NOT NULL,
    -- Keyed hash of the address prefix; never an address.
    network integer NOT NULL,
    campaign smallint NOT NULL,
    candidate smallint NOT NULL,
    -- Position in the campaign's list of publishers; 0 is its own page.
    publisher smallint NOT NULL,
    -- 1 device, 2 verified.
    voter_class smallint NOT NULL,
    -- Keyed hash of (campaign, issuer, subject).
    voter bytea NOT NULL,
    -- The voter before the candidate: the likes of a ballot then stand on one page of the index, not on one each.
    CONSTRAINT like_counts_once PRIMARY KEY (campaign, window_day, voter, candidate),
    CONSTRAINT like_voter_has_16_bytes CHECK (octet_length(voter) = 16)
) PARTITION BY RANGE (campaign, window_day);

-- Rows of `likes` per candidate and shard, added in the transaction that inserted them.
CREATE TABLE counts (
    campaign smallint NOT NULL,
    candidate smallint NOT NULL,
    shard smallint NOT NULL,
    likes bigint NOT NULL,
    PRIMARY KEY (campaign, candidate, shard),
    CONSTRAINT counts_never_fall_below_zero CHECK (likes >= 0)
);

-- The same rows per hour and shard, for the timeline.
CREATE TABLE hours (
    campaign smallint NOT NULL,
    hour timestamptz NOT NULL,
    shard smallint NOT NULL,
    likes bigint NOT NULL,
    PRIMARY KEY (campaign, hour, shard)
);

-- Estimated distinct voters per candidate (0: of any candidate) and shard; a voter has one shard, so shards add up.
CREATE TABLE people_estimates (
    campaign smallint NOT NULL,
    candidate smallint NOT NULL,
    shard smallint NOT NULL,
    people bigint NOT NULL,
    PRIMARY KEY (campaign, candidate, shard)
);

-- The published final tally; written once, in one transaction, by the seal.
CREATE TABLE seals (
    campaign smallint PRIMARY KEY REFERENCES campaigns (number),
    sealed_at timestamptz NOT NULL,
    likes bigint NOT NULL,
    people bigint NOT NULL
);

CREATE TABLE sealed_tallies (
    campaign smallint NOT NULL REFERENCES seals (campaign),
    candidate smallint NOT NULL,
    rank integer NOT NULL,
    likes bigint NOT NULL,
    people bigint NOT NULL,
    PRIMARY KEY (campaign, candidate)
);
