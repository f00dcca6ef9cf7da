-- How people sign in other than by a password: accounts at providers, and passkeys.

-- A provider that was set up by the API or on the page. Those of the settings file are not here.
CREATE TABLE sign_in_provider (
    name TEXT PRIMARY KEY,
    organization TEXT NOT NULL REFERENCES organization (id),
    owner TEXT NOT NULL REFERENCES member (id),
    -- What it is, where, and who may come in by it, as JSON. The secret is not in it.
    settings TEXT NOT NULL,
    -- The client's secret, sealed, in base 64.
    sealed TEXT NOT NULL,
    -- The key of the vault that sealed it.
    sealed_by TEXT NOT NULL,
    created BIGINT NOT NULL,
    changed BIGINT NOT NULL
);
CREATE INDEX sign_in_provider_sealed_by ON sign_in_provider (sealed_by);

-- A person's account at a provider. A person belongs to no organization, so neither does this.
CREATE TABLE identity (
    id TEXT PRIMARY KEY,
    person TEXT NOT NULL REFERENCES person (id),
    -- The provider by whose name it was last used.
    provider TEXT NOT NULL,
    -- Who says so, and whom it means: these two never change, all else may.
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    -- As the provider told them last, for people to recognize it by.
    email TEXT,
    name TEXT NOT NULL,
    -- The memberships that the provider's groups gave, as JSON: roles by organization.
    granted TEXT NOT NULL,
    created BIGINT NOT NULL,
    last_used BIGINT NOT NULL
);
CREATE UNIQUE INDEX identity_account ON identity (issuer, subject);
CREATE INDEX identity_person ON identity (person);

-- A passkey: a key pair of which the server has the public half.
CREATE TABLE passkey (
    id TEXT PRIMARY KEY,
    person TEXT NOT NULL REFERENCES person (id),
    -- As its owner calls it.
    name TEXT NOT NULL,
    -- What the authenticator calls it, in base 64 for URLs.
    credential_id TEXT NOT NULL,
    -- The public key, its counter and what the authenticator said of itself, as JSON.
    credential TEXT NOT NULL,
    created BIGINT NOT NULL,
    last_used BIGINT
);
CREATE UNIQUE INDEX passkey_credential ON passkey (credential_id);
CREATE INDEX passkey_person ON passkey (person);
