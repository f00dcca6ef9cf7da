-- Who sees what: visibility, shares, and what they gave.

-- Rows that were there before are for everybody of the organization to see, as they were.
ALTER TABLE task ADD COLUMN visibility TEXT NOT NULL DEFAULT 'visible'
    CHECK (visibility IN ('private', 'visible', 'open'));
ALTER TABLE workspace ADD COLUMN visibility TEXT NOT NULL DEFAULT 'visible'
    CHECK (visibility IN ('private', 'visible', 'open'));
ALTER TABLE session ADD COLUMN visibility TEXT NOT NULL DEFAULT 'visible'
    CHECK (visibility IN ('private', 'visible', 'open'));

DROP VIEW session_seen;
CREATE VIEW session_seen AS
    SELECT session.*, session_head.last_seq AS last_seq
    FROM session JOIN session_head ON session_head.session_number = session.number;

-- A link to a task, workspace or session. Its code is kept as its SHA-256 only. One whose `guests`
-- is set may be opened without an account, to look.
CREATE TABLE share (
    id TEXT PRIMARY KEY,
    organization TEXT NOT NULL REFERENCES organization (id),
    owner TEXT NOT NULL REFERENCES member (id),
    subject TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('viewer', 'member')),
    guests BOOLEAN NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    uses BIGINT CHECK (uses > 0),
    used BIGINT NOT NULL DEFAULT 0,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    revoked BIGINT
);
CREATE INDEX share_listed ON share (organization, id);
CREATE INDEX share_subject ON share (subject);

-- Who took which. `holder` is a person, or the member of a key that has none. What it is about
-- stands here once more, so that lists need not look it up. It lasts as long as its share.
CREATE TABLE share_grant (
    share TEXT NOT NULL REFERENCES share (id) ON DELETE CASCADE,
    organization TEXT NOT NULL REFERENCES organization (id),
    owner TEXT NOT NULL REFERENCES member (id),
    holder TEXT NOT NULL,
    subject TEXT NOT NULL,
    created BIGINT NOT NULL,
    PRIMARY KEY (share, holder)
);
CREATE INDEX share_grant_held ON share_grant (holder, subject);

-- Browsers of guests, by the SHA-256 of what their cookie holds.
CREATE TABLE share_guest (
    hash TEXT PRIMARY KEY,
    share TEXT NOT NULL REFERENCES share (id) ON DELETE CASCADE,
    organization TEXT NOT NULL REFERENCES organization (id),
    owner TEXT NOT NULL REFERENCES member (id),
    address TEXT,
    agent TEXT,
    created BIGINT NOT NULL
);
CREATE INDEX share_guest_of ON share_guest (share);
