-- Who changed what, when and from where.

-- One chain for each organization, and one (organization '') for what belongs to none. Numbers rise
-- by one without a gap; `hash` is over all other columns and the entry before. No foreign keys: the
-- log outlives what it is about. Nothing changes a row; the oldest are removed by choice.
CREATE TABLE audit_entry (
    organization TEXT NOT NULL,
    number BIGINT NOT NULL,
    time BIGINT NOT NULL,
    person TEXT,
    owner TEXT,
    name TEXT NOT NULL,
    via TEXT NOT NULL,
    address TEXT,
    operation TEXT NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('allowed', 'denied', 'failed')),
    reason TEXT,
    subjects TEXT NOT NULL,
    details TEXT NOT NULL,
    request TEXT,
    before TEXT NOT NULL,
    hash TEXT NOT NULL,
    PRIMARY KEY (organization, number)
);
CREATE INDEX audit_entry_time ON audit_entry (organization, time);
CREATE INDEX audit_entry_person ON audit_entry (organization, person, number)
    WHERE person IS NOT NULL;
CREATE INDEX audit_entry_operation ON audit_entry (organization, operation, number);

-- Both ends of each chain. `first` is the oldest entry that is kept, `anchor` the hash of the one
-- before it: the chain can be checked from there on, however much of it was removed.
-- `keep_days` is how long entries are kept where that is not what the server's settings say.
CREATE TABLE audit_chain (
    organization TEXT PRIMARY KEY,
    number BIGINT NOT NULL,
    hash TEXT NOT NULL,
    first BIGINT NOT NULL,
    anchor TEXT NOT NULL,
    keep_days BIGINT
);
