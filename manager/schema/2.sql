-- The vTPM manager's store, version 2.  Its statements are executed in one transaction with the first rows.

-- Which store this is.  The row is there before the chip's counter and key mask are defined, so that a first
-- use that was cut short finds them again.  A mask of zero: there is none yet.
CREATE TABLE identity (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    store BLOB NOT NULL CHECK (length(store) = 16),
    counter INTEGER NOT NULL,
    mask INTEGER NOT NULL
) STRICT;

-- Keys that the chip has sealed, one row for each configuration of the machine that a key is sealed to: the
-- root key for owner 0, the key of the group n for owner n.  There is none until first use is complete.
CREATE TABLE seal (
    owner INTEGER NOT NULL,
    position INTEGER NOT NULL,
    parent BLOB NOT NULL,
    pcrs BLOB NOT NULL,
    digest BLOB NOT NULL,
    public BLOB NOT NULL,
    private BLOB NOT NULL,
    PRIMARY KEY (owner, position)
) STRICT, WITHOUT ROWID;

-- Groups, encrypted under the root key.
CREATE TABLE grp (
    number INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    sealed BLOB NOT NULL
) STRICT;

-- vTPMs, encrypted under the key of their group.
CREATE TABLE vtpm (
    uuid BLOB PRIMARY KEY CHECK (length(uuid) = 16),
    grp INTEGER NOT NULL,
    created INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    sealed BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- The epoch, which the chip's counter follows, and the encrypted digest of all rows of seal, grp and vtpm.
-- While the chip's key mask is being replaced, next is the new one, encrypted under the old root key.
CREATE TABLE mark (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    epoch INTEGER NOT NULL,
    sealed BLOB NOT NULL,
    next BLOB NOT NULL
) STRICT;

PRAGMA application_id = 0x7654504D;
PRAGMA user_version = 2;
