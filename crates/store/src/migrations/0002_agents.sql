-- Agents: what is installed, what people added to the catalogue, what they set, and which of
-- several agents an attempt is made with.

CREATE TABLE tool (
    id TEXT PRIMARY KEY,
    organization TEXT NOT NULL REFERENCES organization (id),
    owner TEXT NOT NULL REFERENCES member (id),
    -- `agent`: an agent's packages; `node`: a Node that agents run on.
    kind TEXT NOT NULL CHECK (kind IN ('agent', 'node')),
    -- The agent's name, or `node`.
    name TEXT NOT NULL,
    -- That of the first package.
    version TEXT NOT NULL,
    -- All that it was made of: what makes two installations the same.
    recipe TEXT NOT NULL,
    -- The Node that it runs on.
    node TEXT,
    state TEXT NOT NULL CHECK (state IN ('installing', 'ready', 'failed', 'deleted')),
    -- What an installation under way does.
    phase TEXT,
    -- Why it failed.
    reason TEXT,
    -- What the agent was found to offer when it was last checked.
    offers TEXT,
    bytes BIGINT NOT NULL DEFAULT 0,
    created BIGINT NOT NULL,
    ready BIGINT,
    last_used BIGINT NOT NULL
);
CREATE INDEX tool_name ON tool (organization, kind, name) WHERE state <> 'deleted';

-- Agents that were added to the catalogue at run time.
CREATE TABLE agent_entry (
    organization TEXT NOT NULL REFERENCES organization (id),
    owner TEXT NOT NULL REFERENCES member (id),
    name TEXT NOT NULL,
    entry TEXT NOT NULL,
    changed BIGINT NOT NULL,
    PRIMARY KEY (organization, name)
);

-- What people set for an agent: for the organization where `repository` is empty, else for that
-- repository.
CREATE TABLE agent_setting (
    organization TEXT NOT NULL REFERENCES organization (id),
    owner TEXT NOT NULL REFERENCES member (id),
    repository TEXT NOT NULL,
    agent TEXT NOT NULL,
    settings TEXT NOT NULL,
    changed BIGINT NOT NULL,
    PRIMARY KEY (organization, repository, agent)
);

ALTER TABLE attempt ADD COLUMN agent TEXT;
ALTER TABLE attempt ADD COLUMN model TEXT;
-- Until now all attempts at a task had its agent and model.
UPDATE attempt SET
    agent = (SELECT agent FROM task WHERE task.id = attempt.task),
    model = (SELECT model FROM task_order WHERE task_order.task = attempt.task);

-- What was set for this session: chosen with it, and with its task.
ALTER TABLE session ADD COLUMN settings TEXT NOT NULL DEFAULT '{}';
-- What its agent was found to offer.
ALTER TABLE session ADD COLUMN offers TEXT;
-- The installed program that it was last started from.
ALTER TABLE session ADD COLUMN tool TEXT;

DROP VIEW session_seen;
CREATE VIEW session_seen AS
    SELECT session.*, session_head.last_seq AS last_seq
    FROM session JOIN session_head ON session_head.session_number = session.number;
