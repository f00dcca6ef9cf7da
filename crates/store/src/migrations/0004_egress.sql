-- What may leave workspaces: rules and scopes.

-- A rule. `place` is the repository or the workspace that it is for; empty for the organization.
-- `rule` says all of it, as JSON.
CREATE TABLE egress_rule (
    -- The order in which they were made, also of those of one moment.
    number {{serial}},
    id TEXT NOT NULL UNIQUE,
    organization TEXT NOT NULL REFERENCES organization (id),
    owner TEXT NOT NULL REFERENCES member (id),
    scope TEXT NOT NULL CHECK (scope IN ('organization', 'repository', 'workspace')),
    place TEXT NOT NULL,
    rule TEXT NOT NULL,
    -- When it ends by itself.
    expires BIGINT,
    created BIGINT NOT NULL,
    changed BIGINT NOT NULL
);
CREATE INDEX egress_rule_place ON egress_rule (organization, scope, place, number);
CREATE INDEX egress_rule_expires ON egress_rule (expires) WHERE expires IS NOT NULL;

-- What is set for a scope beside its rules. `mode`: what becomes of what no rule is about; `widen`:
-- whether scopes below it may open what it leaves closed. Absent: as it is above, or by default.
CREATE TABLE egress_scope (
    organization TEXT NOT NULL REFERENCES organization (id),
    owner TEXT NOT NULL REFERENCES member (id),
    scope TEXT NOT NULL CHECK (scope IN ('organization', 'repository', 'workspace')),
    place TEXT NOT NULL,
    mode TEXT,
    widen BOOLEAN,
    changed BIGINT NOT NULL,
    PRIMARY KEY (organization, scope, place)
);
