-- Organizations: who is in them, invitations, and roles in single repositories.

-- What tasks, sessions and workspaces are for others when nobody says; and its end.
ALTER TABLE organization ADD COLUMN visibility TEXT NOT NULL DEFAULT 'visible'
    CHECK (visibility IN ('private', 'visible', 'open'));
ALTER TABLE organization ADD COLUMN deleted BIGINT;

-- A person is a member once: who comes back is the same member, and has the same work. A member
-- without a person is who is behind a key of the organization's own.
ALTER TABLE member ADD COLUMN person TEXT REFERENCES person (id);
ALTER TABLE member ADD COLUMN role TEXT NOT NULL DEFAULT 'member'
    CHECK (role IN ('viewer', 'member', 'admin', 'owner'));
ALTER TABLE member ADD COLUMN removed BIGINT;
UPDATE member SET role = 'owner', person = 'psn_00000000000000000000000001'
    WHERE id = 'mem_00000000000000000000000001';
CREATE UNIQUE INDEX member_person ON member (person, organization);
CREATE INDEX member_listed ON member (organization, id);

-- Members with what is known of the person.
CREATE VIEW member_seen AS
    SELECT member.id AS id, member.organization AS organization, member.person AS person,
        member.role AS role, COALESCE(person.name, member.name) AS name, person.email AS email,
        member.created AS created, member.removed AS removed, person.disabled AS disabled,
        person.last_seen AS last_seen
    FROM member LEFT JOIN person ON person.id = member.person;

-- What a member may do in one repository, where that is less than in the organization. `member` is
-- empty for everybody who has no row of his own.
CREATE TABLE repository_role (
    organization TEXT NOT NULL REFERENCES organization (id),
    owner TEXT NOT NULL REFERENCES member (id),
    repository TEXT NOT NULL REFERENCES repository (id) ON DELETE CASCADE,
    member TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('none', 'viewer', 'member')),
    created BIGINT NOT NULL,
    PRIMARY KEY (repository, member)
);
CREATE INDEX repository_role_of ON repository_role (organization, member);

-- The code of an invitation is kept as its SHA-256.
CREATE TABLE invitation (
    id TEXT PRIMARY KEY,
    organization TEXT NOT NULL REFERENCES organization (id),
    owner TEXT NOT NULL REFERENCES member (id),
    hash TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL CHECK (role IN ('viewer', 'member', 'admin', 'owner')),
    email TEXT,
    uses BIGINT NOT NULL CHECK (uses > 0),
    used BIGINT NOT NULL DEFAULT 0,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    revoked BIGINT,
    mailed BIGINT
);
CREATE INDEX invitation_listed ON invitation (organization, id);

-- Who came by which.
CREATE TABLE invitation_use (
    organization TEXT NOT NULL REFERENCES organization (id),
    owner TEXT NOT NULL REFERENCES member (id),
    invitation TEXT NOT NULL REFERENCES invitation (id) ON DELETE CASCADE,
    used BIGINT NOT NULL,
    PRIMARY KEY (invitation, owner)
);

-- Who may do what now: a row for each member who is not removed, of a person who is not disabled,
-- in an organization that is not deleted. A key of the organization's own has a member without a
-- person.
CREATE VIEW standing AS
    SELECT member.organization AS organization, member.id AS owner, member.role AS role,
        member.person AS person, COALESCE(person.name, member.name) AS name,
        person.email AS email, COALESCE(person.operator, 0) AS operator,
        organization.name AS organization_name
    FROM member
        JOIN organization ON organization.id = member.organization
        LEFT JOIN person ON person.id = member.person
    WHERE member.removed IS NULL AND person.disabled IS NULL AND organization.deleted IS NULL;
