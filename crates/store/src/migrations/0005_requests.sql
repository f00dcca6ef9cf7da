-- What left workspaces, and what waits for a person.

-- One row for each request or tunnel, in the order in which they ended. No foreign keys: the log
-- outlives what it is about, and is written in large statements.
CREATE TABLE egress_request (
    number {{serial}},
    organization TEXT NOT NULL,
    owner TEXT NOT NULL,
    time BIGINT NOT NULL,
    workspace TEXT NOT NULL,
    session TEXT,
    task TEXT,
    way TEXT NOT NULL CHECK (way IN ('proxy', 'model', 'git')),
    program TEXT,
    method TEXT NOT NULL,
    host TEXT NOT NULL,
    port BIGINT NOT NULL,
    path TEXT,
    verdict TEXT NOT NULL CHECK (verdict IN ('allowed', 'denied', 'asked_allowed', 'asked_denied',
        'asked_expired', 'asked_withdrawn', 'failed', 'learned')),
    rule TEXT,
    reason TEXT,
    credential TEXT,
    status BIGINT,
    sent BIGINT NOT NULL,
    received BIGINT NOT NULL,
    micros BIGINT NOT NULL
);
CREATE INDEX egress_request_time ON egress_request (organization, time);
CREATE INDEX egress_request_workspace ON egress_request (workspace, number);
CREATE INDEX egress_request_session ON egress_request (session, number) WHERE session IS NOT NULL;
CREATE INDEX egress_request_host ON egress_request (host, number);

-- A request that a person is asked about. `question` tells the same question from another one.
CREATE TABLE egress_ask (
    id TEXT PRIMARY KEY,
    organization TEXT NOT NULL REFERENCES organization (id),
    owner TEXT NOT NULL REFERENCES member (id),
    workspace TEXT NOT NULL REFERENCES workspace (id),
    repository TEXT,
    task TEXT,
    session TEXT,
    question TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'allowed', 'denied', 'expired', 'withdrawn')),
    method TEXT,
    host TEXT NOT NULL,
    port BIGINT NOT NULL,
    path TEXT,
    shape TEXT,
    rule TEXT NOT NULL,
    credential TEXT,
    program TEXT,
    answer TEXT CHECK (answer IN
        ('once', 'ten_minutes', 'workspace', 'repository', 'no', 'never')),
    resolver TEXT,
    made TEXT,
    spent BOOLEAN NOT NULL DEFAULT FALSE,
    created BIGINT NOT NULL,
    deadline BIGINT NOT NULL,
    resolved BIGINT
);
-- The same question of a workspace is asked once at a time.
CREATE UNIQUE INDEX egress_ask_open ON egress_ask (workspace, question) WHERE state = 'open';
-- What was said, for who asks the same again.
CREATE INDEX egress_ask_said ON egress_ask (question, workspace)
    WHERE state IN ('allowed', 'denied');
CREATE INDEX egress_ask_deadline ON egress_ask (deadline) WHERE state = 'open';
CREATE INDEX egress_ask_listed ON egress_ask (organization, id);
CREATE INDEX egress_ask_workspace ON egress_ask (workspace, id);
