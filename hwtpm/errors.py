"""The exception roots: whose fault it is decides the class."""

from __future__ import annotations


class TpmError(Exception):
    """A TPM response code for the caller: an outcome, never a bug in this program.

    *rc* is the 32-bit response code (Part 2, 6.6).  Format-one codes gain the number of the
    handle, session or parameter at fault through `handle`, `session` and `parameter`.
    """

    def __init__(self, rc: int) -> None:
        super().__init__(rc)
        self.rc = int(rc)

    def __str__(self) -> str:
        return f"TPM_RC 0x{self.rc:03x}"

    def _name(self, offset: int) -> TpmError:
        # Only a format-one code (bit 7) whose P bit and number field are still clear takes a number.
        if self.rc & 0x80 and not self.rc & 0xF40:
            self.rc += offset
        return self

    def parameter(self, number: int) -> TpmError:
        """Name parameter *number*, from 1 (TPM_RC_P, Part 2, 6.6.2)."""
        return self._name(0x40 + (number << 8))

    def handle(self, number: int) -> TpmError:
        """Name handle *number*, from 1 (TPM_RC_H)."""
        return self._name(number << 8)

    def session(self, number: int) -> TpmError:
        """Name session *number*, from 1 (TPM_RC_S)."""
        return self._name(0x800 + (number << 8))


class ProtocolError(Exception):
    """A peer broke a protocol: a ring, a register interface, a device, a manager message."""


class StateError(Exception):
    """Stored state cannot be used: damaged, of another version, or not ours."""


class MissingPrimitive(Exception):
    """This machine's cryptographic library refuses something that a TPM cannot do without."""
