-- What was changed in the roster of a campaign while it ran, field by field; rows are only added.

CREATE TABLE roster_changes (
    campaign smallint NOT NULL REFERENCES campaigns (number),
    changed_at timestamptz NOT NULL DEFAULT now(),
    code text NOT NULL,
    field text NOT NULL,
    -- Empty for a candidate who was new.
    before text NOT NULL,
    after text NOT NULL,
    PRIMARY KEY (campaign, changed_at, code, field)
);
