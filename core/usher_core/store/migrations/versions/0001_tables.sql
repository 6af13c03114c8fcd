-- Text is folded by Python before it is stored, so PostgreSQL compares bytes: COLLATE "C".
CREATE TABLE tenants (
    tenant        uuid PRIMARY KEY,
    namespace     text COLLATE "C" NOT NULL,
    name          text COLLATE "C" NOT NULL,
    display_name  text,
    host          text COLLATE "C",
    suspended     boolean NOT NULL DEFAULT false,
    sso_required  boolean NOT NULL DEFAULT true,
    sso_ready     boolean NOT NULL DEFAULT false,
    sso_message   text NOT NULL DEFAULT '',
    config        jsonb NOT NULL DEFAULT '{}',
    -- The schemas and resource types of the tenant's own that hold now; version 0 is none.
    schemas         jsonb NOT NULL DEFAULT '[]',
    schemas_version bigint NOT NULL DEFAULT 0,
    -- What cursors are sealed with; it never leaves the service.
    cursor_key    bytea NOT NULL
        DEFAULT decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'),
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    deleted_at    timestamptz,
    UNIQUE (namespace, name)
);
CREATE TABLE tokens (
    tenant        uuid NOT NULL,
    token_id      text COLLATE "C" NOT NULL,
    name          text COLLATE "C" NOT NULL,
    digest        bytea NOT NULL,
    role          text COLLATE "C" NOT NULL CHECK (role IN ('administrator', 'reader')),
    issued_at     timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL,
    valid_until   timestamptz,
    revoked_at    timestamptz,
    last_used_at  timestamptz,
    -- When its text was seen to stand in its Secret; before that nobody can have it.
    delivered_at  timestamptz,
    -- When somebody asked for a successor; it is issued at the next look at the tenant.
    rotate_requested_at timestamptz,
    PRIMARY KEY (tenant, token_id),
    -- A difference of moments knows no time zone: adding days would.
    CHECK (expires_at - issued_at <= interval '365 days'),
    CHECK (octet_length(digest) = 32)
);
-- The one index without the tenant in front: a bearer token is what tells the tenant.
CREATE UNIQUE INDEX tokens_by_id ON tokens (token_id);
-- The term of the operator at work, one row: what an operator of an older term would write is refused.
CREATE TABLE operator_terms (
    the_one   boolean PRIMARY KEY DEFAULT true CHECK (the_one),
    term      bigint NOT NULL DEFAULT 0,
    holder    text NOT NULL DEFAULT '',
    begun_at  timestamptz NOT NULL DEFAULT now()
);
INSERT INTO operator_terms DEFAULT VALUES;
-- One row a tenant: its lock, the epoch of its drain, and the counters that only its holder moves.
CREATE TABLE drains (
    tenant    uuid PRIMARY KEY,
    epoch     bigint NOT NULL DEFAULT 0,
    accepted  bigint NOT NULL DEFAULT 0,
    events    bigint NOT NULL DEFAULT 0
);
CREATE TABLE resources (
    tenant        uuid NOT NULL,
    type          text COLLATE "C" NOT NULL,
    id            uuid NOT NULL,
    version       bigint NOT NULL,
    document      jsonb NOT NULL,
    external_id   text COLLATE "C",
    display_name  text COLLATE "C",
    created_at    timestamptz NOT NULL,
    modified_at   timestamptz NOT NULL,
    -- Text that is not ASCII, folded by Python as unique values are: PostgreSQL before 18 has no case folding.
    -- NULL where lower() says the same. Texts whose case counts are folded here too; who compares them reads
    -- the document itself.
    folded        jsonb,
    PRIMARY KEY (tenant, type, id)
);
CREATE INDEX resources_by_external_id ON resources (tenant, type, external_id) WHERE external_id IS NOT NULL;
CREATE INDEX resources_by_display_name ON resources (tenant, type, display_name)
    WHERE display_name IS NOT NULL;
CREATE TABLE unique_values (
    tenant  uuid NOT NULL,
    type    text COLLATE "C" NOT NULL,
    path    text COLLATE "C" NOT NULL,
    folded  text COLLATE "C" NOT NULL,
    id      uuid NOT NULL,
    PRIMARY KEY (tenant, type, path, folded)
);
CREATE TABLE lookup_values (
    tenant  uuid NOT NULL,
    type    text COLLATE "C" NOT NULL,
    path    text COLLATE "C" NOT NULL,
    folded  text COLLATE "C" NOT NULL,
    id      uuid NOT NULL,
    PRIMARY KEY (tenant, type, path, folded, id)
);
CREATE TABLE members (
    tenant       uuid NOT NULL,
    group_id     uuid NOT NULL,
    member_id    uuid NOT NULL,
    member_type  text COLLATE "C" NOT NULL,
    display      text,
    folded       text COLLATE "C",
    PRIMARY KEY (tenant, group_id, member_id)
);
CREATE INDEX members_by_member ON members (tenant, member_id, group_id);
-- Groups within groups: where there are none, it is empty.
CREATE INDEX members_nested ON members (tenant, group_id, member_id) WHERE member_type = 'Group';
CREATE TABLE totals (
    tenant  uuid NOT NULL,
    type    text COLLATE "C" NOT NULL,
    total   bigint NOT NULL,
    PRIMARY KEY (tenant, type)
);
CREATE TABLE change_log (
    tenant         uuid NOT NULL,
    accepted_at    timestamptz NOT NULL,
    change_id      uuid NOT NULL,
    stream_id      text COLLATE "C" NOT NULL,
    operation      text COLLATE "C" NOT NULL,
    resource_type  text COLLATE "C" NOT NULL,
    resource_id    uuid NOT NULL,
    token_id       text COLLATE "C" NOT NULL,
    request_id     text NOT NULL,
    body           jsonb,
    applied_at     timestamptz NOT NULL,
    status         smallint NOT NULL,
    scim_type      text COLLATE "C",
    detail         text,
    version        bigint,
    -- Of an operation of a bulk: the bulk, and the place among its operations. The bulk's own row comes with
    -- the last of them.
    bulk_id        uuid,
    bulk_index     integer,
    PRIMARY KEY (tenant, accepted_at, change_id)
) PARTITION BY RANGE (accepted_at);
CREATE TABLE deleted_resources (
    tenant       uuid NOT NULL,
    type         text COLLATE "C" NOT NULL,
    id           uuid NOT NULL,
    version      bigint NOT NULL,
    document     jsonb NOT NULL,
    created_at   timestamptz NOT NULL,
    modified_at  timestamptz NOT NULL,
    deleted_at   timestamptz NOT NULL,
    PRIMARY KEY (tenant, type, id)
);
CREATE INDEX deleted_resources_by_time ON deleted_resources (tenant, deleted_at);
-- Changes that were promised before their turn, in the order of their acceptance; `entry` is what stands in
-- the stream.
CREATE TABLE inbox (
    tenant       uuid NOT NULL,
    number       bigint NOT NULL,
    change_id    uuid NOT NULL,
    accepted_at  timestamptz NOT NULL,
    entry        bytea NOT NULL,
    PRIMARY KEY (tenant, number),
    UNIQUE (tenant, change_id)
);
-- What reads as taken away until the turn of the change that takes it. `group_id` is all zeros where the
-- subject is a user who reads as inactive.
CREATE TABLE fences (
    tenant       uuid NOT NULL,
    subject      uuid NOT NULL,
    group_id     uuid NOT NULL,
    change_id    uuid NOT NULL,
    accepted_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant, subject, group_id, change_id)
);
CREATE INDEX fences_by_change ON fences (tenant, change_id);
CREATE INDEX fences_by_group ON fences (tenant, group_id);
-- What became known, numbered without a gap for each tenant; partitioned by month.
CREATE TABLE events (
    tenant         uuid NOT NULL,
    number         bigint NOT NULL,
    at             timestamptz NOT NULL,
    kind           text COLLATE "C" NOT NULL,
    change_id      uuid NOT NULL,
    resource_type  text COLLATE "C" NOT NULL,
    resource_id    uuid NOT NULL,
    version        bigint,
    detail         jsonb,
    PRIMARY KEY (tenant, number, at)
) PARTITION BY RANGE (at);
-- The schemas that were asked for last, and how far their check against what is stored has come: `checked` of
-- `total`, up to the resource named. Of the contradictions that were `found` the first few are kept.
CREATE TABLE schema_requests (
    tenant          uuid PRIMARY KEY,
    digest          text COLLATE "C" NOT NULL,
    change_id       uuid NOT NULL,
    accepted_at     timestamptz NOT NULL,
    state           text COLLATE "C" NOT NULL DEFAULT 'queued'
                    CHECK (state IN ('queued', 'checking', 'accepted', 'refused')),
    checked         bigint NOT NULL DEFAULT 0,
    total           bigint NOT NULL DEFAULT 0,
    type            text COLLATE "C",
    id              uuid,
    found           bigint NOT NULL DEFAULT 0,
    contradictions  jsonb NOT NULL DEFAULT '[]'
);
CREATE TABLE dead_letters (
    tenant       uuid NOT NULL,
    accepted_at  timestamptz NOT NULL,
    change_id    uuid NOT NULL,
    change       jsonb NOT NULL,
    reason       text COLLATE "C" NOT NULL,
    traceback    text NOT NULL,
    attempts     integer NOT NULL,
    failed_at    timestamptz NOT NULL,
    PRIMARY KEY (tenant, accepted_at, change_id)
);
