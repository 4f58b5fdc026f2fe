"""What this TPM 1.2 offers: its sizes, limits and identity.  At least what libtpms has."""

from __future__ import annotations

from typing import Final

NUM_PCR: Final = 24
KEY_HANDLES: Final = 20  # loaded keys
OWNER_EVICT_KEY_HANDLES: Final = 10  # of them under the owner's control
AUTH_SESSIONS: Final = 16
TRANSPORT_SESSIONS: Final = 16
DAA_SESSIONS: Final = 2
SESSION_LIST: Final = 128  # saved session contexts
COUNTERS: Final = 8
FAMILY_ROWS: Final = 16
DELEGATE_ROWS: Final = 4
NV_OCTETS: Final = 128 * 1024  # of all indices together
MAX_NV_WRITE_NOOWNER: Final = 64
BUFFER_SIZE: Final = 4096
MAX_RANDOM: Final = 4096 - 14  # what the buffer leaves beside header and size
RSA_KEY_BITS: Final = (512, 1024, 2048)
DEFAULT_EXPONENT: Final = 65537

VENDOR_ID: Final = b"CTPM"
REV_MAJOR: Final = 0
REV_MINOR: Final = 1
SPEC_LEVEL: Final = 2
ERRATA_REV: Final = 3

# The SHA-1 thread and DAA sessions end with TPM_Startup(ST_STATE), too, the audit digest with ST_CLEAR only
# (Part 2, 4.6).
STARTUP_EFFECTS: Final = 0x00000144
TIMEOUTS_US: Final = (750_000, 2_000_000, 750_000, 750_000)  # TIS timeouts A to D
DURATIONS_US: Final = (1_000_000, 10_000_000, 60_000_000)  # small, medium, long
TICK_US: Final = 1000  # microseconds of one tick
LOCKOUT_THRESHOLD: Final = 5  # failures of authorization that go unpunished
