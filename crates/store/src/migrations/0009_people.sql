-- People, how they sign in, and the browsers in which they are signed in.

-- An account on this server. Email addresses are kept in small letters. The person that is built in
-- has none until somebody claims it: the one who sets the server up.
CREATE TABLE person (
    id TEXT PRIMARY KEY,
    email TEXT UNIQUE,
    -- Since when the address is known to be the person's.
    verified BIGINT,
    name TEXT NOT NULL,
    -- Argon2id, in the text form with its parameters (PHC).
    password TEXT,
    password_set BIGINT,
    -- May run the server itself.
    operator BIGINT NOT NULL DEFAULT 0,
    disabled BIGINT,
    claimed BIGINT,
    created BIGINT NOT NULL,
    last_seen BIGINT
);
INSERT INTO person (id, name, operator, created)
    VALUES ('psn_00000000000000000000000001', 'Owner', 1, 0);

-- A browser in which a person is signed in, by the hash of what its cookie holds.
CREATE TABLE device (
    id TEXT PRIMARY KEY,
    person TEXT NOT NULL REFERENCES person (id) ON DELETE CASCADE,
    -- The one that it looks at.
    organization TEXT NOT NULL REFERENCES organization (id),
    hash TEXT NOT NULL UNIQUE,
    -- What the person proved itself with: password, link, key, passkey, or a provider's name.
    way TEXT NOT NULL,
    -- The key that it was signed in with: it can do no more, and dies with it.
    api_key TEXT REFERENCES api_key (id) ON DELETE CASCADE,
    address TEXT,
    program TEXT,
    created BIGINT NOT NULL,
    last_seen BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    revoked BIGINT
);
CREATE INDEX device_of_person ON device (person, created);
CREATE INDEX device_of_key ON device (api_key) WHERE api_key IS NOT NULL;
