"""What a front end needs to know about the process at the other end of a device file."""

from __future__ import annotations

import signal

_KILL_BIT = 1 << (signal.SIGKILL - 1)


def is_dying(tid: int) -> bool:
    """Tell whether thread *tid* is being killed, and only waits for its system call to end.

    The kernel turns every fatal signal into a pending SIGKILL for each thread of the process.  A
    signal that the process handles (Python's SIGINT, Go's SIGURG) is not fatal: like the kernel's own
    device, a front end lets the command go on then.  False for a thread that cannot be seen, 0 included.
    """
    try:
        with open(f"/proc/{tid}/status", "rb") as status:
            for line in status:
                if line.startswith(b"SigPnd:"):
                    return bool(int(line.split()[1], 16) & _KILL_BIT)
    except OSError:
        pass
    return False
