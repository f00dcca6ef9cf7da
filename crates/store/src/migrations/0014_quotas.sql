-- What may be used, what was used each day, and what is a person's own.

-- One row for each limit. An amount is a count, milliseconds (`minutes`) or bytes (`storage`).
CREATE TABLE quota (
    id TEXT PRIMARY KEY,
    organization TEXT NOT NULL REFERENCES organization (id),
    -- Who set it.
    owner TEXT NOT NULL REFERENCES member (id),
    -- `each`: every person of the organization who has none of their own.
    scope TEXT NOT NULL CHECK (scope IN ('organization', 'each', 'person')),
    -- The id of whose it is; the organization's for `each`.
    subject TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('tasks', 'workspaces', 'minutes', 'storage')),
    amount BIGINT NOT NULL,
    -- What somebody added to it: on the day that begins then, or for good where that is 0.
    extra BIGINT NOT NULL DEFAULT 0,
    extra_since BIGINT NOT NULL DEFAULT 0,
    -- Whether who runs the server set it, so that only they may change it.
    imposed BOOLEAN NOT NULL DEFAULT FALSE,
    created BIGINT NOT NULL,
    UNIQUE (organization, scope, subject, kind)
);

-- Sessions in which an agent works at this moment, and from when on that is not counted yet.
CREATE TABLE session_clock (
    session TEXT PRIMARY KEY,
    organization TEXT NOT NULL,
    owner TEXT NOT NULL,
    since BIGINT NOT NULL
);
CREATE INDEX session_clock_organization ON session_clock (organization, owner);

-- For how many milliseconds an agent worked, by session and day.
CREATE TABLE session_time (
    session TEXT NOT NULL,
    day BIGINT NOT NULL,
    organization TEXT NOT NULL,
    owner TEXT NOT NULL,
    millis BIGINT NOT NULL,
    PRIMARY KEY (session, day)
);
CREATE INDEX session_time_day ON session_time (organization, day, owner);

-- The figures of days that are over, as the job `daily-usage` stores them. What is not known is
-- empty; time and tasks have no provider and no model.
CREATE TABLE usage_day (
    organization TEXT NOT NULL REFERENCES organization (id),
    owner TEXT NOT NULL,
    day BIGINT NOT NULL,
    repository TEXT NOT NULL,
    agent TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    tasks BIGINT NOT NULL,
    millis BIGINT NOT NULL,
    calls BIGINT NOT NULL,
    input BIGINT NOT NULL,
    output BIGINT NOT NULL,
    cache_read BIGINT NOT NULL,
    cache_write BIGINT NOT NULL,
    reasoning BIGINT NOT NULL,
    micros BIGINT NOT NULL,
    -- What of that people paid themselves.
    own_micros BIGINT NOT NULL,
    unknown BIGINT NOT NULL,
    reckoned BIGINT NOT NULL,
    PRIMARY KEY (organization, day, owner, repository, agent, provider, model)
);

-- When an organization last had its turn: those that wait take turns.
CREATE TABLE organization_turn (
    organization TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    begun BIGINT NOT NULL
);

-- The more, the earlier among the organization's own.
ALTER TABLE attempt ADD COLUMN priority BIGINT NOT NULL DEFAULT 0;
CREATE INDEX attempt_queued ON attempt (organization, owner, priority DESC, id)
    WHERE state = 'queued';

-- Whose money a question is about: `money`, `minutes` or `storage`.
ALTER TABLE budget_ask ADD COLUMN unit TEXT NOT NULL DEFAULT 'money';

-- The connection by which a person paid, where it was not the organization.
ALTER TABLE model_call ADD COLUMN paid_by TEXT;

-- A connection that is its owner's alone, and the provider of models that it is for.
ALTER TABLE connection ADD COLUMN personal BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE connection ADD COLUMN provider TEXT;
DROP INDEX connection_name;
CREATE UNIQUE INDEX connection_name ON connection (organization, name)
    WHERE removed IS NULL AND personal = FALSE;
CREATE UNIQUE INDEX connection_own_name ON connection (organization, owner, name)
    WHERE removed IS NULL AND personal = TRUE;

-- In whose name a person's workspaces commit.
CREATE TABLE git_identity (
    organization TEXT NOT NULL REFERENCES organization (id),
    owner TEXT NOT NULL REFERENCES member (id),
    name TEXT NOT NULL,
    email TEXT NOT NULL,
    changed BIGINT NOT NULL,
    PRIMARY KEY (organization, owner)
);

-- What a person reaches repositories with: before what the organization does.
CREATE TABLE git_own_binding (
    organization TEXT NOT NULL REFERENCES organization (id),
    owner TEXT NOT NULL REFERENCES member (id),
    place TEXT NOT NULL,
    connection TEXT NOT NULL,
    created BIGINT NOT NULL,
    problem TEXT,
    problem_since BIGINT,
    PRIMARY KEY (organization, owner, place)
);
