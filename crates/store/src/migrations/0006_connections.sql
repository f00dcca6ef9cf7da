-- Credentials for outside services, sealed, and the keys that seal them.

-- Keys of the vault, each wrapped by the master key, which is not in the database.
CREATE TABLE vault_key (
    id TEXT PRIMARY KEY,
    organization TEXT NOT NULL REFERENCES organization (id),
    owner TEXT NOT NULL REFERENCES member (id),
    -- `data`: seals values. `placeholder`: what placeholders are derived from.
    purpose TEXT NOT NULL CHECK (purpose IN ('data', 'placeholder')),
    -- The wrapped key, in base 64.
    wrapped TEXT NOT NULL,
    -- Tells which master key wraps it, and nothing else of that.
    master TEXT NOT NULL,
    created BIGINT NOT NULL,
    -- When another took its place: it opens what it sealed, and seals nothing more.
    retired BIGINT
);

CREATE TABLE connection (
    id TEXT PRIMARY KEY,
    organization TEXT NOT NULL REFERENCES organization (id),
    owner TEXT NOT NULL REFERENCES member (id),
    name TEXT NOT NULL,
    -- `github`, `npm`, …, `generic`.
    kind TEXT NOT NULL,
    -- Where it goes: hosts, ports, methods, paths, places; which variables name it. As JSON.
    binding TEXT NOT NULL,
    -- The value, sealed, in base 64; empty once the connection is removed.
    sealed TEXT NOT NULL,
    -- The key that sealed it.
    sealed_by TEXT NOT NULL,
    created BIGINT NOT NULL,
    -- When its value was given last.
    rotated BIGINT NOT NULL,
    expires BIGINT,
    removed BIGINT,
    last_used BIGINT,
    -- When its service said last that it does not know the value.
    last_refused BIGINT
);
CREATE UNIQUE INDEX connection_name ON connection (organization, name) WHERE removed IS NULL;
CREATE INDEX connection_sealed_by ON connection (sealed_by);
