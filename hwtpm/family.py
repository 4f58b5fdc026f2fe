"""The two families of TPMs, as those see them who give an engine power and store its state.

An engine takes and gives octets; who runs one needs to know little of what is in them: the answers that only
it can give, and the commands of the platform's firmware.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from struct import Struct
from typing import Any, Final, NamedTuple, Protocol

FAMILIES: Final = ("2.0", "1.2")

_pack_plain = Struct(">HII").pack
_pack_u8 = Struct(">HIIB").pack
_pack_u32s = Struct(">HIIIII").pack
_pack_u16 = Struct(">HIIH").pack


class Engine(Protocol):
    """A TPM with power, of either family; see `hwtpm.tpm2.engine` and `hwtpm.tpm12.engine`."""

    fault: Exception | None

    def made_from(self, seed: bytes) -> bool:
        """Tell whether *seed* made this TPM, as far as that can be seen."""

    def execute(self, command: bytes, locality: int = 0,
                cancelled: Callable[[], bool] = ...) -> tuple[bytes, bool]:
        """Run *command*, which came from *locality* 0 to 4.

        Returns the response, and whether permanent state must be stored before it leaves.
        """

    @property
    def dirty(self) -> bool:
        """Tell whether permanent state has changed since the last snapshot."""

    def attach(self, parent: Callable[[bytes, bytes, int], bytes] | None) -> None:
        """There is a chip below this TPM: *parent* gives its quote of 20 octets, the PCRs of a bit map, and
        flags (VTPM_QUOTE_FLAGS_), or raises TpmError with a code of this family."""

    def begin_with(self, values: Mapping[tuple[int, int], bytes]) -> None:
        """PCRs, by algorithm and number, have these values after a Startup that clears them."""

    def takes_long(self, command: bytes) -> bool:
        """Tell whether *command* may search primes."""

    def snapshot(self) -> bytes:
        """Return the permanent state."""

    def snapshot_running(self) -> bytes:
        """Return all that lives until power goes; it goes with the permanent state of this moment."""

    def rollback(self, snapshot: bytes) -> None:
        """Make the permanent state that of *snapshot*; volatile state stays."""

    def hash_start(self) -> None:
        """The platform starts to measure what it launches."""

    def hash_data(self, data: bytes) -> None:
        """*data* is the next part of what is launched."""

    def hash_end(self) -> None:
        """What was launched is in its PCR."""

    def establish(self, established: bool) -> None:
        """The platform's record of a dynamic launch is SET or CLEAR."""

    @property
    def established(self) -> bool:
        """Tell what `establish` was last told."""


class Family(NamedTuple):
    """One family.  Commands and responses are whole, header and all."""

    name: str
    make: Callable[..., Engine]  # the constructor of its engine
    failed: bytes  # the response of a TPM that cannot work at all
    unsaved: bytes  # the response to a command whose effect cannot be made durable
    startup: Mapping[str, bytes]  # the commands of firmware, by what they start: "clear", "state"
    warm_up: tuple[bytes, ...]  # commands that change nothing and take long when they are the first of a kind
    shutdown: tuple[bytes, ...]  # the commands before power goes, the one that keeps most first
    not_started: int  # the code of a command before any Startup
    rc_name: Callable[[int], str]
    bare: Mapping[str, bool]  # arguments of `make` for a new TPM without what its maker could leave to others
    presence: Callable[[Any, bool], None] | None  # tells its engine of the platform's signal, if that counts
    destroying: frozenset[bytes]  # the codes, 4 octets, of commands after which secrets are gone for good

    def shuts_down(self, command: bytes) -> bool:
        """Tell whether *command* is a shutdown of any kind."""
        return command[6:10] == self.shutdown[0][6:10]

    def destroys(self, command: bytes) -> bool:
        """Tell whether *command* destroys seeds or proofs, and with them all that they protect."""
        return command[6:10] in self.destroying


def _codes(*codes: int) -> frozenset[bytes]:
    return frozenset(code.to_bytes(4, "big") for code in codes)


def response_code(response: bytes) -> int:
    """Return the response code; 0 means success in both families."""
    return int.from_bytes(response[6:10], "big")


@cache
def family(name: str) -> Family:
    """Return the family "2.0" or "1.2"; its engine is imported by that."""
    return _family_12() if name == "1.2" else _family_20()


def _family_20() -> Family:
    from hwtpm.tpm2.dispatch import error_response
    from hwtpm.tpm2.engine import Engine
    from hwtpm.tpm2.types import constants as c
    from hwtpm.tpm2.types.base import NO

    def command(code: int, argument: int) -> bytes:
        return _pack_u16(c.TPM_ST_NO_SESSIONS, 12, code, argument)

    return Family(
        "2.0", Engine, error_response(c.TPM_RC_FAILURE), error_response(c.TPM_RC_NV_UNAVAILABLE),
        {"clear": command(c.TPM_CC_Startup, c.TPM_SU_CLEAR),
         "state": command(c.TPM_CC_Startup, c.TPM_SU_STATE)},
        (_pack_u8(c.TPM_ST_NO_SESSIONS, 11, c.TPM_CC_SelfTest, NO),
         _pack_u32s(c.TPM_ST_NO_SESSIONS, 22, c.TPM_CC_GetCapability, c.TPM_CAP_COMMANDS, c.TPM_CC_FIRST, 1)),
        (command(c.TPM_CC_Shutdown, c.TPM_SU_STATE), command(c.TPM_CC_Shutdown, c.TPM_SU_CLEAR)),
        c.TPM_RC_INITIALIZE, c.rc_name, {}, Engine.presence,
        _codes(c.TPM_CC_Clear, c.TPM_CC_ChangePPS, c.TPM_CC_ChangeEPS),
    )


def _family_12() -> Family:
    from hwtpm.tpm12.delivery import delivered
    from hwtpm.tpm12.dispatch import error_response
    from hwtpm.tpm12.types import codes
    from hwtpm.tpm12.types import constants as c
    from hwtpm.tpm12.types.ordinals import (
        TPM_ORD_ContinueSelfTest,
        TPM_ORD_ForceClear,
        TPM_ORD_OwnerClear,
        TPM_ORD_RevokeTrust,
        TPM_ORD_SaveState,
        TPM_ORD_Startup,
    )

    def startup(kind: int) -> bytes:
        return _pack_u16(c.TPM_TAG_RQU_COMMAND, 12, TPM_ORD_Startup, kind)

    return Family(
        "1.2", delivered, error_response(codes.TPM_FAIL), error_response(codes.TPM_FAIL),
        {"clear": startup(c.TPM_ST_CLEAR), "state": startup(c.TPM_ST_STATE)},
        (_pack_plain(c.TPM_TAG_RQU_COMMAND, 10, TPM_ORD_ContinueSelfTest),),
        (_pack_plain(c.TPM_TAG_RQU_COMMAND, 10, TPM_ORD_SaveState),),
        codes.TPM_INVALID_POSTINIT, codes.rc_name, {"endorsement_key": False, "nv_locked": False}, None,
        _codes(TPM_ORD_OwnerClear, TPM_ORD_ForceClear, TPM_ORD_RevokeTrust),
    )
