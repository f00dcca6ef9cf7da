-- What keys may do and for how long, codes of devices, and the calls that keys made.

-- Keys from before are those of the server's own account.
ALTER TABLE api_key ADD COLUMN kind TEXT NOT NULL DEFAULT 'local'
    CHECK (kind IN ('local', 'bootstrap', 'personal', 'service', 'login'));
ALTER TABLE api_key ADD COLUMN scopes TEXT NOT NULL DEFAULT 'all';
ALTER TABLE api_key ADD COLUMN expires BIGINT;
ALTER TABLE api_key ADD COLUMN last_address TEXT;

CREATE INDEX api_key_by_owner ON api_key (organization, owner, id);

-- Keys with what is known of their members. The server's own account may always do everything.
CREATE VIEW api_key_seen AS
    SELECT api_key.organization AS organization, api_key.owner AS owner, api_key.id AS id,
        api_key.kind AS kind, api_key.name AS name, api_key.scopes AS scopes,
        api_key.prefix AS prefix, api_key.created AS created, api_key.last_used AS last_used,
        api_key.last_address AS last_address, api_key.expires AS expires,
        api_key.revoked AS revoked, COALESCE(person.name, member.name) AS member_name,
        CASE WHEN api_key.kind IN ('local', 'bootstrap') THEN 'owner'
            WHEN member.removed IS NULL AND person.disabled IS NULL THEN member.role
            END AS role
    FROM api_key
        JOIN member ON member.id = api_key.owner
        LEFT JOIN person ON person.id = member.person;

-- Calls of one key to one address with one outcome, within a moment, are one row.
CREATE TABLE api_key_call (
    number {{serial}},
    organization TEXT NOT NULL REFERENCES organization (id),
    owner TEXT NOT NULL REFERENCES member (id),
    api_key TEXT NOT NULL REFERENCES api_key (id) ON DELETE CASCADE,
    time BIGINT NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    status BIGINT NOT NULL,
    address TEXT,
    calls BIGINT NOT NULL,
    micros BIGINT NOT NULL
);

CREATE INDEX api_key_call_by_key ON api_key_call (api_key, number);
CREATE INDEX api_key_call_by_time ON api_key_call (time);

-- Programs that wait to be let in (RFC 8628). Both codes are kept as their SHA-256. Whose it is
-- shows when somebody has decided; the key is made when the program asks after that.
CREATE TABLE device_code (
    hash TEXT PRIMARY KEY,
    user_hash TEXT NOT NULL UNIQUE,
    client TEXT NOT NULL,
    agent TEXT,
    address TEXT,
    scopes TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'approved', 'denied', 'used')),
    pause BIGINT NOT NULL,
    polled BIGINT,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    organization TEXT REFERENCES organization (id),
    owner TEXT REFERENCES member (id),
    decided BIGINT,
    key_expires BIGINT
);

CREATE INDEX device_code_by_state ON device_code (state, expires);
CREATE INDEX device_code_by_expires ON device_code (expires);
