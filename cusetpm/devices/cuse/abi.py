"""The part of the kernel's FUSE and CUSE message format that a single file needs.

Names are those of the kernel's include/uapi/linux/fuse.h; integers are in the machine's byte order.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

FUSE_KERNEL_VERSION: Final = 7
FUSE_KERNEL_MINOR_VERSION: Final = 31
"""The newest minor version whose messages this program knows; the kernel adapts to what is replied."""

CUSE_MIN_MINOR_VERSION: Final = 11
"""The first minor version with CUSE."""

FUSE_GETATTR: Final = 3
FUSE_SETATTR: Final = 4
FUSE_OPEN: Final = 14
FUSE_READ: Final = 15
FUSE_WRITE: Final = 16
FUSE_RELEASE: Final = 18
FUSE_STATFS: Final = 17
FUSE_FSYNC: Final = 20
FUSE_FLUSH: Final = 25
FUSE_INIT: Final = 26
FUSE_INTERRUPT: Final = 36
FUSE_DESTROY: Final = 38
FUSE_IOCTL: Final = 39
FUSE_POLL: Final = 40
CUSE_INIT: Final = 4096

NO_REPLY: Final = frozenset({2, 42})
"""FUSE_FORGET and FUSE_BATCH_FORGET: messages that must not be answered."""

FUSE_NOTIFY_POLL: Final = 1
FUSE_POLL_SCHEDULE_NOTIFY: Final = 1 << 0
FOPEN_DIRECT_IO: Final = 1 << 0
FOPEN_NONSEEKABLE: Final = 1 << 2

FUSE_ATOMIC_O_TRUNC: Final = 1 << 3
FUSE_BIG_WRITES: Final = 1 << 5

FATTR_MODE: Final = 1 << 0
FATTR_UID: Final = 1 << 1
FATTR_GID: Final = 1 << 2

FUSE_MIN_READ_BUFFER: Final = 8192

IN_HEADER: Final = Struct("=IIQ16xI4x")
"""fuse_in_header: len, opcode, unique, pid; without nodeid, uid, gid, total_extlen and padding."""

OUT_HEADER: Final = Struct("=IiQ")
"""fuse_out_header: len, error (a negative errno, or a notification's code), unique (0: notification)."""

CUSE_INIT_IN: Final = Struct("=IIII")
"""cuse_init_in: major, minor, unused, flags."""

CUSE_INIT_OUT: Final = Struct("=IIIIIIII40x")
"""cuse_init_out: major, minor, unused, flags, max_read, max_write, dev_major, dev_minor, spare[10]."""

INIT_IN: Final = Struct("=IIII")
"""fuse_init_in: major, minor, max_readahead, flags; newer kernels send more."""

INIT_OUT: Final = Struct("=IIIIHHIIHHI28x")
"""fuse_init_out: major, minor, max_readahead, flags, max_background, congestion_threshold, max_write,
time_gran, max_pages, map_alignment, flags2, unused[7]."""

ATTR_OUT: Final = Struct("=QI4xQQQQQQIIIIIIIIII")
"""fuse_attr_out: attr_valid, attr_valid_nsec; then fuse_attr: ino, size, blocks, atime, mtime, ctime, their
nanoseconds, mode, nlink, uid, gid, rdev, blksize, flags."""

SETATTR_IN: Final = Struct("=I64xI4xII4x")
"""fuse_setattr_in: valid, mode, uid, gid; without file handle, size, owner of a lock and times."""

STATFS_OUT: Final = Struct("=QQQQQIII28x")
"""fuse_kstatfs: blocks, bfree, bavail, files, ffree, bsize, namelen, frsize."""

OPEN_IN: Final = Struct("=II")
"""fuse_open_in: flags, open_flags."""

OPEN_OUT: Final = Struct("=QII")
"""fuse_open_out: fh, open_flags, backing_id (or padding)."""

READ_IN: Final = Struct("=QQIIQII")
"""fuse_read_in: fh, offset, size, read_flags, lock_owner, flags, padding."""

WRITE_IN: Final = Struct("=QQIIQII")
"""fuse_write_in: fh, offset, size, write_flags, lock_owner, flags, padding; the data follows."""

WRITE_OUT: Final = Struct("=II")
"""fuse_write_out: size, padding."""

RELEASE_IN: Final = Struct("=QIIQ")
"""fuse_release_in: fh, flags, release_flags, lock_owner."""

INTERRUPT_IN: Final = Struct("=Q")
"""fuse_interrupt_in: unique of the request that is interrupted."""

POLL_IN: Final = Struct("=QQII")
"""fuse_poll_in: fh, kh, flags, events."""

POLL_OUT: Final = Struct("=II")
"""fuse_poll_out: revents, padding."""

NOTIFY_POLL_WAKEUP_OUT: Final = Struct("=Q")
"""fuse_notify_poll_wakeup_out: kh."""

IOCTL_IN: Final = Struct("=QIIQII")
"""fuse_ioctl_in: fh, flags, cmd, arg, in_size, out_size; the argument's octets follow."""

IOCTL_OUT: Final = Struct("=iIII")
"""fuse_ioctl_out: result, flags, in_iovs, out_iovs; the octets for the argument follow."""
