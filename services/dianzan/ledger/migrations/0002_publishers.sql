-- Publishers become rows of their own: a like names its publisher by a number that is given once.

CREATE TABLE publishers (
    campaign smallint NOT NULL REFERENCES campaigns (number),
    -- What a like holds; given once, in the order in which publishers were added. 0 is the campaign's own page.
    number smallint NOT NULL,
    code text NOT NULL,
    name text NOT NULL,
    -- Scheme and host of the pages that embed the button.
    origins text[] NOT NULL,
    PRIMARY KEY (campaign, number),
    CONSTRAINT publisher_code_is_unique_in_its_campaign UNIQUE (campaign, code),
    CONSTRAINT publisher_number_starts_at_one CHECK (number >= 1)
);

-- Until now the number was the place in the list of the campaign's rules.
INSERT INTO publishers (campaign, number, code, name, origins)
SELECT campaigns.number, listed.place, listed.code, '', '{}'
FROM campaigns, jsonb_array_elements_text(rules -> 'publishers') WITH ORDINALITY AS listed (code, place);
