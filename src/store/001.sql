-- Instants are milliseconds since the Unix epoch; words are those of the payloads and metrics.

-- What is remembered of each credential (key `platform/credential`) and platform (key `platform`).
CREATE TABLE subject (
    key        TEXT PRIMARY KEY,
    state      TEXT NOT NULL,
    updated_ms INTEGER NOT NULL
) STRICT;

-- A composed message to one target: what is sent, byte for byte, under an id that never changes.
CREATE TABLE parcel (
    id          TEXT PRIMARY KEY,
    receiver    TEXT NOT NULL,
    integration TEXT NOT NULL,
    channel     INTEGER NOT NULL,
    recipient   TEXT NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'dead', 'superseded')),
    attempts    INTEGER NOT NULL DEFAULT 0,
    created_ms  INTEGER NOT NULL,
    next_ms     INTEGER NOT NULL,
    finished_ms INTEGER,
    answer      TEXT,
    -- Last, so that the columns before it are read without its pages.
    body        BLOB NOT NULL
) STRICT;
CREATE INDEX parcel_dead ON parcel (id) WHERE state = 'dead';
CREATE INDEX parcel_due ON parcel (next_ms) WHERE state = 'pending';

-- An obligation to tell one target one fact. The ledger: a fact is owed to a target once.
CREATE TABLE owed (
    id            INTEGER PRIMARY KEY,
    key           TEXT NOT NULL,
    thread        TEXT NOT NULL,
    status        TEXT NOT NULL CHECK (status IN ('firing', 'resolved')),
    receiver      TEXT NOT NULL,
    integration   TEXT NOT NULL,
    channel       INTEGER NOT NULL,
    recipient     TEXT NOT NULL,
    notice        TEXT NOT NULL,
    created_ms    INTEGER NOT NULL,
    not_before_ms INTEGER NOT NULL,
    state         TEXT NOT NULL CHECK (state IN ('waiting', 'composed', 'superseded')),
    parcel_id     TEXT REFERENCES parcel (id),
    UNIQUE (key, receiver, integration, channel, recipient)
) STRICT;
CREATE INDEX owed_waiting ON owed (not_before_ms) WHERE state = 'waiting';
CREATE INDEX owed_thread ON owed (thread, receiver, integration, channel, recipient);
CREATE INDEX owed_parcel ON owed (parcel_id);

-- Every try at a message, with what the server answered.
CREATE TABLE attempt (
    parcel_id TEXT NOT NULL REFERENCES parcel (id),
    number    INTEGER NOT NULL,
    at_ms     INTEGER NOT NULL,
    took_ms   INTEGER NOT NULL,
    outcome   TEXT NOT NULL CHECK (outcome IN ('delivered', 'failed', 'dead')),
    answer    TEXT NOT NULL,
    PRIMARY KEY (parcel_id, number)
) STRICT, WITHOUT ROWID;
