"""The resource manager: spaces of a TPM, and the way around them."""

from __future__ import annotations

from cusetpm.rm.shared import SharedTpm
from cusetpm.rm.space import ManagedSpace
from cusetpm.transport import Transport


class ResourceManager:
    """Divides the TPM 2.0 behind *transport* among spaces and whoever uses it as it is.

    It is itself the `Transport` of the latter, that of /dev/tpmN: its user finds what it loaded at the same
    handles, and nothing of the spaces.  Objects and sessions of spaces stay in the TPM from one command to
    the next, until another one needs their place.  Every command of the TPM has to come through here.
    """

    def __init__(self, transport: Transport) -> None:
        self._tpm = SharedTpm(transport)
        self.execute = self._tpm.execute_raw
        self.cancel, self.takes_long = self._tpm.cancel, self._tpm.takes_long

    def open(self) -> ManagedSpace:
        """Return a new space, which is empty."""
        return ManagedSpace(self._tpm)

    def give_way(self) -> None:
        """The TPM holds nothing of the spaces, which get it back with their next commands."""
        self._tpm.enter()
        try:
            self._tpm.places.give_way()
        finally:
            self._tpm.leave()

    def lose(self) -> None:
        """The TPM has lost its power: nothing is in it any more."""
        self._tpm.enter()
        try:
            self._tpm.lose()
        finally:
            self._tpm.leave()
