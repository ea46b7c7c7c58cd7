-- What is remembered of each listed key (key `platform/list/id`), by the list that holds it (`platform/list`).
CREATE TABLE found (
    key        TEXT PRIMARY KEY,
    list       TEXT NOT NULL,
    state      TEXT NOT NULL,
    updated_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX found_list ON found (list);

-- What was found in a list: a key that is new, gone, or lives too long.
CREATE TABLE finding (
    id    INTEGER PRIMARY KEY,
    list  TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    kind  TEXT NOT NULL,
    item  TEXT NOT NULL
) STRICT;
CREATE INDEX finding_list ON finding (list, id);
