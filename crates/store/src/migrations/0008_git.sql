-- Git: which credential goes with which repositories, and the keys that commits are signed with.

-- `place` is `host[:port]/owner/repository`, or with `/*` at its end all below it. No reference to
-- the connection: one that was removed is told of by its name, and mended by another.
CREATE TABLE git_binding (
    organization TEXT NOT NULL REFERENCES organization (id),
    owner TEXT NOT NULL REFERENCES member (id),
    place TEXT NOT NULL,
    connection TEXT NOT NULL,
    -- Whether workspaces of other repositories fetch with it too, where their rules allow that.
    shared BOOLEAN NOT NULL DEFAULT FALSE,
    created BIGINT NOT NULL,
    -- Why it was not taken when it was last used, and since when; absent while it works.
    problem TEXT,
    problem_since BIGINT,
    PRIMARY KEY (organization, place)
);

-- The key of an organization, sealed by the vault.
CREATE TABLE git_key (
    organization TEXT PRIMARY KEY REFERENCES organization (id),
    owner TEXT NOT NULL REFERENCES member (id),
    public_key TEXT NOT NULL,
    sealed TEXT NOT NULL,
    -- The vault's key that sealed it.
    sealed_by TEXT NOT NULL,
    created BIGINT NOT NULL
);
