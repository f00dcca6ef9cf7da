-- The first schema. Ids and JSON are TEXT, times BIGINT (milliseconds since 1970), states are
-- checked. {{serial}} is the dialect's automatically numbered primary key.
--
-- Rows that belong to one session's row (turn, session_head, event) have its organization and
-- owner; all others carry their own.

CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE organization (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    created BIGINT NOT NULL
);

CREATE TABLE member (
    id TEXT PRIMARY KEY,
    organization TEXT NOT NULL REFERENCES organization (id),
    name TEXT NOT NULL,
    created BIGINT NOT NULL
);

CREATE TABLE api_key (
    id TEXT PRIMARY KEY,
    organization TEXT NOT NULL REFERENCES organization (id),
    owner TEXT NOT NULL REFERENCES member (id),
    name TEXT NOT NULL,
    prefix TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    created BIGINT NOT NULL,
    last_used BIGINT,
    revoked BIGINT
);

CREATE TABLE repository (
    id TEXT PRIMARY KEY,
    organization TEXT NOT NULL REFERENCES organization (id),
    owner TEXT NOT NULL REFERENCES member (id),
    source TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('https', 'ssh', 'path', 'sent')),
    folder TEXT NOT NULL,
    default_branch TEXT,
    state TEXT NOT NULL CHECK (state IN ('new', 'fetching', 'ready', 'failed')),
    error TEXT,
    bytes BIGINT NOT NULL DEFAULT 0,
    created BIGINT NOT NULL,
    fetched BIGINT,
    last_used BIGINT NOT NULL,
    UNIQUE (organization, source)
);

CREATE TABLE layer (
    id TEXT PRIMARY KEY,
    organization TEXT NOT NULL REFERENCES organization (id),
    owner TEXT NOT NULL REFERENCES member (id),
    repository TEXT REFERENCES repository (id) ON DELETE SET NULL,
    kind TEXT NOT NULL CHECK (kind IN ('prepared', 'setup', 'snapshot')),
    state TEXT NOT NULL CHECK (state IN ('building', 'ready', 'deleted')),
    cache_key TEXT,
    parents TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    created BIGINT NOT NULL,
    last_used BIGINT NOT NULL
);
CREATE UNIQUE INDEX layer_cache_key ON layer (organization, cache_key)
    WHERE state = 'ready' AND cache_key IS NOT NULL;

CREATE TABLE workspace (
    id TEXT PRIMARY KEY,
    organization TEXT NOT NULL REFERENCES organization (id),
    owner TEXT NOT NULL REFERENCES member (id),
    kind TEXT NOT NULL CHECK (kind IN ('sandbox', 'local')),
    state TEXT NOT NULL CHECK (state IN ('creating', 'awake', 'asleep', 'failed', 'deleted')),
    reason TEXT,
    name TEXT,
    task TEXT,
    forked_from TEXT,
    runtime TEXT NOT NULL,
    isolation TEXT,
    generation BIGINT NOT NULL DEFAULT 0,
    lowers TEXT NOT NULL,
    repository TEXT REFERENCES repository (id) ON DELETE SET NULL,
    folder TEXT,
    base_commit TEXT,
    branch TEXT,
    limits TEXT NOT NULL,
    disk_bytes BIGINT NOT NULL DEFAULT 0,
    recovered BOOLEAN NOT NULL DEFAULT FALSE,
    created BIGINT NOT NULL,
    last_active BIGINT NOT NULL
);
CREATE INDEX workspace_listed ON workspace (organization, id) WHERE state <> 'deleted';
CREATE INDEX workspace_state ON workspace (state, last_active);

CREATE TABLE task (
    id TEXT PRIMARY KEY,
    organization TEXT NOT NULL REFERENCES organization (id),
    owner TEXT NOT NULL REFERENCES member (id),
    state TEXT NOT NULL CHECK (state IN
        ('queued', 'preparing', 'running', 'waiting', 'succeeded', 'failed', 'cancelled')),
    title TEXT NOT NULL,
    repository TEXT REFERENCES repository (id) ON DELETE SET NULL,
    source TEXT NOT NULL,
    agent TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    session TEXT,
    created BIGINT NOT NULL,
    started BIGINT,
    ended BIGINT
);
CREATE INDEX task_listed ON task (organization, id);
CREATE INDEX task_state ON task (organization, state, id);
CREATE INDEX task_repository ON task (organization, repository, id);

-- The rest of a task, apart so that lists read narrow rows.
CREATE TABLE task_order (
    task TEXT PRIMARY KEY REFERENCES task (id) ON DELETE CASCADE,
    model TEXT,
    base TEXT,
    environment TEXT,
    limits TEXT NOT NULL,
    workspace_limits TEXT NOT NULL,
    options TEXT NOT NULL,
    prompt TEXT NOT NULL
);

CREATE TABLE session (
    number {{serial}},
    id TEXT NOT NULL UNIQUE,
    organization TEXT NOT NULL REFERENCES organization (id),
    owner TEXT NOT NULL REFERENCES member (id),
    workspace TEXT NOT NULL REFERENCES workspace (id),
    task TEXT,
    attempt TEXT,
    agent TEXT NOT NULL,
    model TEXT,
    cwd TEXT NOT NULL,
    client_key TEXT,
    state TEXT NOT NULL CHECK (state IN ('starting', 'idle', 'running', 'waiting', 'ended')),
    reason TEXT,
    turns BIGINT NOT NULL DEFAULT 0,
    turn BIGINT,
    agent_session TEXT,
    usage TEXT,
    created BIGINT NOT NULL,
    last_active BIGINT NOT NULL,
    ended BIGINT
);
CREATE INDEX session_listed ON session (organization, id);
CREATE INDEX session_workspace ON session (workspace, id);
CREATE UNIQUE INDEX session_client_key ON session (workspace, client_key)
    WHERE client_key IS NOT NULL;
CREATE INDEX session_alive ON session (state, id) WHERE state <> 'ended';

-- What every append changes, apart from the rest so that the row is small: the last sequence
-- number given, the last pair that came from a runner, the first number of the running turn.
CREATE TABLE session_head (
    session_number BIGINT PRIMARY KEY,
    last_seq BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    n BIGINT NOT NULL,
    turn_seq BIGINT NOT NULL
);

CREATE VIEW session_seen AS
    SELECT session.*, session_head.last_seq AS last_seq
    FROM session JOIN session_head ON session_head.session_number = session.number;

CREATE TABLE attempt (
    id TEXT PRIMARY KEY,
    organization TEXT NOT NULL REFERENCES organization (id),
    owner TEXT NOT NULL REFERENCES member (id),
    task TEXT NOT NULL REFERENCES task (id) ON DELETE CASCADE,
    n BIGINT NOT NULL,
    state TEXT NOT NULL CHECK (state IN
        ('queued', 'preparing', 'running', 'waiting', 'succeeded', 'failed', 'cancelled')),
    reason TEXT,
    workspace TEXT REFERENCES workspace (id),
    session TEXT REFERENCES session (id),
    branch TEXT,
    base_commit TEXT,
    result TEXT,
    phases TEXT NOT NULL,
    created BIGINT NOT NULL,
    started BIGINT,
    ended BIGINT,
    UNIQUE (task, n)
);
CREATE INDEX attempt_alive ON attempt (state, id)
    WHERE state IN ('queued', 'preparing', 'running', 'waiting');
CREATE INDEX attempt_workspace ON attempt (workspace) WHERE workspace IS NOT NULL;
CREATE INDEX attempt_session ON attempt (session) WHERE session IS NOT NULL;

CREATE TABLE prompt (
    id TEXT PRIMARY KEY,
    organization TEXT NOT NULL REFERENCES organization (id),
    owner TEXT NOT NULL REFERENCES member (id),
    session TEXT NOT NULL REFERENCES session (id) ON DELETE CASCADE,
    place BIGINT NOT NULL,
    mode TEXT NOT NULL CHECK (mode IN ('queue', 'steer', 'interrupt')),
    state TEXT NOT NULL CHECK (state IN ('queued', 'delivered', 'done', 'withdrawn')),
    author TEXT,
    turn BIGINT,
    created BIGINT NOT NULL,
    delivered BIGINT,
    content TEXT NOT NULL,
    UNIQUE (session, place)
);

CREATE TABLE turn (
    session TEXT NOT NULL REFERENCES session (id) ON DELETE CASCADE,
    n BIGINT NOT NULL,
    prompt TEXT NOT NULL,
    first_seq BIGINT NOT NULL,
    started BIGINT NOT NULL,
    ended BIGINT,
    outcome TEXT CHECK (outcome IN
        ('completed', 'cancelled', 'refused', 'failed', 'runner_lost', 'limit_reached')),
    error TEXT,
    checkpoint TEXT,
    millis BIGINT,
    PRIMARY KEY (session, n)
);

CREATE TABLE permission (
    id TEXT PRIMARY KEY,
    organization TEXT NOT NULL REFERENCES organization (id),
    owner TEXT NOT NULL REFERENCES member (id),
    session TEXT NOT NULL REFERENCES session (id) ON DELETE CASCADE,
    turn BIGINT,
    state TEXT NOT NULL CHECK (state IN ('open', 'allowed', 'denied', 'expired', 'cancelled')),
    tool TEXT,
    title TEXT NOT NULL,
    options TEXT NOT NULL,
    choice TEXT,
    resolver TEXT,
    created BIGINT NOT NULL,
    deadline BIGINT NOT NULL,
    resolved BIGINT
);
CREATE INDEX permission_open ON permission (deadline) WHERE state = 'open';
CREATE INDEX permission_session ON permission (session, id);

CREATE TABLE question (
    id TEXT PRIMARY KEY,
    organization TEXT NOT NULL REFERENCES organization (id),
    owner TEXT NOT NULL REFERENCES member (id),
    session TEXT NOT NULL REFERENCES session (id) ON DELETE CASCADE,
    turn BIGINT,
    state TEXT NOT NULL CHECK (state IN ('open', 'answered', 'expired', 'cancelled')),
    wording TEXT NOT NULL,
    options TEXT NOT NULL,
    answer TEXT,
    resolver TEXT,
    created BIGINT NOT NULL,
    deadline BIGINT NOT NULL,
    resolved BIGINT
);
CREATE INDEX question_open ON question (deadline) WHERE state = 'open';
CREATE INDEX question_session ON question (session, id);

-- Appended in the order of storing. No foreign key and no unique index: both would halve the rate
-- of appending, and the one writer gives the numbers.
CREATE TABLE event (
    number {{serial}},
    session_number BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    time BIGINT NOT NULL,
    turn BIGINT,
    kind TEXT NOT NULL,
    item TEXT,
    body TEXT NOT NULL
);
CREATE INDEX event_session ON event (session_number, seq);

CREATE TABLE feed (
    seq {{serial}},
    organization TEXT NOT NULL,
    owner TEXT NOT NULL,
    time BIGINT NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL
);

CREATE TABLE blob (
    id TEXT PRIMARY KEY,
    organization TEXT NOT NULL REFERENCES organization (id),
    owner TEXT NOT NULL REFERENCES member (id),
    sha256 TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    mime TEXT NOT NULL,
    created BIGINT NOT NULL
);
CREATE INDEX blob_sha256 ON blob (sha256);

-- Which task or session holds on to a blob; what nothing holds on to is removed in time.
CREATE TABLE blob_use (
    blob TEXT NOT NULL REFERENCES blob (id) ON DELETE CASCADE,
    holder TEXT NOT NULL,
    PRIMARY KEY (blob, holder)
);
CREATE INDEX blob_use_holder ON blob_use (holder);

CREATE TABLE job (
    number {{serial}},
    id TEXT NOT NULL UNIQUE,
    organization TEXT NOT NULL,
    owner TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    queue TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT,
    run_at BIGINT NOT NULL,
    generation BIGINT NOT NULL DEFAULT 0,
    attempts BIGINT NOT NULL DEFAULT 0,
    max_attempts BIGINT NOT NULL,
    lease_owner TEXT,
    lease_until BIGINT,
    dedup_key TEXT,
    error TEXT,
    created BIGINT NOT NULL,
    started BIGINT,
    ended BIGINT,
    payload TEXT NOT NULL
);
CREATE INDEX job_due ON job (queue, run_at, number) WHERE state = 'queued';
CREATE INDEX job_leased ON job (lease_until) WHERE state = 'running';
CREATE INDEX job_subject ON job (subject, number) WHERE subject IS NOT NULL;
-- One live job for a key; a key may be used again when that one is over.
CREATE UNIQUE INDEX job_dedup ON job (organization, dedup_key)
    WHERE dedup_key IS NOT NULL AND state IN ('queued', 'running');

CREATE TABLE idempotency (
    organization TEXT NOT NULL,
    owner TEXT NOT NULL,
    route TEXT NOT NULL,
    client_key TEXT NOT NULL,
    request_hash TEXT NOT NULL,
    response TEXT NOT NULL,
    created BIGINT NOT NULL,
    PRIMARY KEY (organization, route, client_key)
);
CREATE INDEX idempotency_created ON idempotency (created);

INSERT INTO organization (id, name, created) VALUES ('org_00000000000000000000000001', 'Default', 0);
INSERT INTO member (id, organization, name, created)
    VALUES ('mem_00000000000000000000000001', 'org_00000000000000000000000001', 'Owner', 0);
