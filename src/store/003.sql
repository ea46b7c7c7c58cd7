-- A channel is known by its name; rows of before have its position in the file. A notice belongs to a group, may be held
-- back by a silence or a mute, and waits no longer than it was told to.
CREATE TABLE new_parcel (
    id          TEXT PRIMARY KEY,
    receiver    TEXT NOT NULL,
    integration TEXT NOT NULL,
    channel     TEXT NOT NULL,
    recipient   TEXT NOT NULL,
    grp         TEXT NOT NULL DEFAULT '',
    state       TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'dead', 'superseded')),
    attempts    INTEGER NOT NULL DEFAULT 0,
    created_ms  INTEGER NOT NULL,
    next_ms     INTEGER NOT NULL,
    finished_ms INTEGER,
    answer      TEXT,
    -- Last, so that the columns before it are read without its pages.
    body        BLOB NOT NULL
) STRICT;
INSERT INTO new_parcel (id, receiver, integration, channel, recipient, state, attempts, created_ms, next_ms, finished_ms,
        answer, body)
    SELECT id, receiver, integration, CAST(channel AS TEXT), recipient, state, attempts, created_ms, next_ms, finished_ms,
        answer, body FROM parcel ORDER BY rowid;

CREATE TABLE new_owed (
    id            INTEGER PRIMARY KEY,
    key           TEXT NOT NULL,
    thread        TEXT NOT NULL,
    status        TEXT NOT NULL CHECK (status IN ('firing', 'resolved')),
    receiver      TEXT NOT NULL,
    integration   TEXT NOT NULL,
    channel       TEXT NOT NULL,
    recipient     TEXT NOT NULL,
    grp           TEXT NOT NULL DEFAULT '',
    wait_ms       INTEGER NOT NULL DEFAULT 0,
    interval_ms   INTEGER NOT NULL DEFAULT 0,
    -- A JSON list of names of windows.
    mutes         TEXT NOT NULL DEFAULT '[]',
    notice        TEXT NOT NULL,
    created_ms    INTEGER NOT NULL,
    not_before_ms INTEGER NOT NULL,
    -- Why it is held back until then.
    held          TEXT CHECK (held IN ('silenced', 'muted')),
    state         TEXT NOT NULL CHECK (state IN ('waiting', 'composed', 'superseded')),
    parcel_id     TEXT REFERENCES new_parcel (id),
    UNIQUE (key, receiver, integration, channel, recipient)
) STRICT;
INSERT INTO new_owed (id, key, thread, status, receiver, integration, channel, recipient, notice, created_ms, not_before_ms,
        state, parcel_id)
    SELECT id, key, thread, status, receiver, integration, CAST(channel AS TEXT), recipient, notice, created_ms,
        not_before_ms, state, parcel_id FROM owed;

CREATE TABLE new_attempt (
    parcel_id TEXT NOT NULL REFERENCES new_parcel (id),
    number    INTEGER NOT NULL,
    at_ms     INTEGER NOT NULL,
    took_ms   INTEGER NOT NULL,
    outcome   TEXT NOT NULL CHECK (outcome IN ('delivered', 'failed', 'dead')),
    answer    TEXT NOT NULL,
    PRIMARY KEY (parcel_id, number)
) STRICT, WITHOUT ROWID;
INSERT INTO new_attempt SELECT * FROM attempt;

DROP TABLE attempt;
DROP TABLE owed;
DROP TABLE parcel;
ALTER TABLE new_parcel RENAME TO parcel;
ALTER TABLE new_owed RENAME TO owed;
ALTER TABLE new_attempt RENAME TO attempt;

CREATE INDEX parcel_dead ON parcel (id) WHERE state = 'dead';
CREATE INDEX parcel_due ON parcel (next_ms) WHERE state = 'pending';
CREATE INDEX parcel_group ON parcel (grp, receiver, integration, channel, recipient, created_ms) WHERE grp <> '';
CREATE INDEX owed_waiting ON owed (not_before_ms) WHERE state = 'waiting';
CREATE INDEX owed_thread ON owed (thread, receiver, integration, channel, recipient);
CREATE INDEX owed_parcel ON owed (parcel_id);

-- What somebody has asked to be quiet about. Matchers are a JSON list in Alertmanager's notation.
CREATE TABLE silence (
    id         TEXT PRIMARY KEY,
    matchers   TEXT NOT NULL,
    created_by TEXT NOT NULL,
    comment    TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    starts_ms  INTEGER NOT NULL,
    ends_ms    INTEGER NOT NULL
) STRICT;

-- Single things to remember: the key that signs links, when the last digest was owed.
CREATE TABLE memo (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;
