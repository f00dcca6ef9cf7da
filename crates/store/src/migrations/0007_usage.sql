-- What models were asked, what it cost, and what it may cost.

-- One row for each request in which a model ran. Money is in millionths of a US dollar; none where
-- no price is known.
CREATE TABLE model_call (
    number {{serial}},
    organization TEXT NOT NULL REFERENCES organization (id),
    owner TEXT NOT NULL REFERENCES member (id),
    time BIGINT NOT NULL,
    workspace TEXT NOT NULL,
    session TEXT,
    task TEXT,
    attempt TEXT,
    provider TEXT NOT NULL,
    model TEXT,
    input BIGINT NOT NULL,
    output BIGINT NOT NULL,
    cache_read BIGINT NOT NULL,
    cache_write BIGINT NOT NULL,
    reasoning BIGINT NOT NULL,
    micros BIGINT,
    -- Whether the provider did not say what was used, or not to the end.
    estimated BOOLEAN NOT NULL,
    status BIGINT,
    millis BIGINT NOT NULL
);
CREATE INDEX model_call_time ON model_call (organization, time);
CREATE INDEX model_call_session ON model_call (session) WHERE session IS NOT NULL;
CREATE INDEX model_call_attempt ON model_call (attempt) WHERE attempt IS NOT NULL;
CREATE INDEX model_call_task ON model_call (task) WHERE task IS NOT NULL;

CREATE TABLE budget (
    id TEXT PRIMARY KEY,
    organization TEXT NOT NULL REFERENCES organization (id),
    owner TEXT NOT NULL REFERENCES member (id),
    scope TEXT NOT NULL CHECK (scope IN ('organization', 'person', 'task', 'attempt')),
    -- The id of what it is for.
    subject TEXT NOT NULL,
    period TEXT NOT NULL CHECK (period IN ('day', 'month', 'total')),
    micros BIGINT NOT NULL,
    -- What somebody added to it, in the period that begins then only.
    extra BIGINT NOT NULL DEFAULT 0,
    extra_since BIGINT NOT NULL DEFAULT 0,
    created BIGINT NOT NULL,
    UNIQUE (organization, scope, subject, period)
);

-- Which permission of a session stands for more money, and of which budget.
CREATE TABLE budget_ask (
    permission TEXT PRIMARY KEY REFERENCES permission (id) ON DELETE CASCADE,
    organization TEXT NOT NULL,
    owner TEXT NOT NULL,
    session TEXT NOT NULL,
    scope TEXT NOT NULL,
    subject TEXT NOT NULL,
    period TEXT NOT NULL,
    since BIGINT NOT NULL,
    -- What the budget was, for one that has no row: a limit of the order.
    base BIGINT NOT NULL
);
CREATE INDEX budget_ask_session ON budget_ask (session);
