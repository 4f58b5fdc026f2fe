-- The vTPM manager's store, version 1.  All of it is one transaction.
BEGIN IMMEDIATE;

-- Which store this is.  The row is there before the chip's counter is defined, so that a first use that was
-- cut short finds its counter again.
CREATE TABLE identity (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    store BLOB NOT NULL CHECK (length(store) = 16),
    counter INTEGER NOT NULL
) STRICT;

-- The root key, sealed by the chip; there is none until first use is complete.
CREATE TABLE root (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    parent BLOB NOT NULL,
    pcrs BLOB NOT NULL,
    public BLOB NOT NULL,
    private BLOB NOT NULL
) STRICT;

-- The epoch, which the chip's counter follows, and the encrypted digest of all rows of vtpm.
CREATE TABLE mark (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    epoch INTEGER NOT NULL,
    sealed BLOB NOT NULL
) STRICT;

CREATE TABLE vtpm (
    uuid BLOB PRIMARY KEY CHECK (length(uuid) = 16),
    epoch INTEGER NOT NULL,
    sealed BLOB NOT NULL
) STRICT, WITHOUT ROWID;

PRAGMA application_id = 0x7654504D;
PRAGMA user_version = 1;
COMMIT;
