"""Platform configuration registers: values, localities, change tracking (Part 1, 14; PC Client PTP, 4.6)."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Annotated, ClassVar, Final, NamedTuple

from hwtpm.crypto import hashes
from hwtpm.errors import TpmError
from hwtpm.tpm2.profile import (
    DIGEST_SIZE,
    DRTM_PCR,
    HCRTM_PCR,
    IMPLEMENTATION_PCR,
    MAX_DIGEST_SIZE,
    PCR_BANKS,
    PCR_SELECT_MAX,
)
from hwtpm.tpm2.state.owner import FLAG, Owner, Start
from hwtpm.tpm2.types.base import UINT8, UINT16, UINT32
from hwtpm.tpm2.types.constants import TPM_ALG_NULL, TPM_RC_LOCALITY, TPM_RC_PCR
from hwtpm.tpm2.types.structures import TPMS_PCR_SELECTION, TPMT_HA
from hwtpm.wire import SECRET, ListOf, Sized, Wire, decode, encode

_FORMAT: Final = 1
ALL_PCRS: Final = (1 << IMPLEMENTATION_PCR) - 1
_HCRTM_LOCALITY: Final = 4  # what PCR 0 starts with after an H-CRTM


class Attributes(NamedTuple):
    """What the platform specification says of one PCR; bit n of a locality mask stands for locality n."""

    saved: bool  # a TPM Resume restores it
    counted: bool  # a change increments pcrUpdateCounter
    reset: int  # localities that may reset it
    extend: int  # localities that may extend it
    grouped: bool = False  # it shares the group's policy and authValue

    @property
    def dynamic(self) -> bool:
        """Tell whether a dynamic launch resets it: it starts as ones (Part 1, 14.3)."""
        return bool(self.reset & 0x10)


ATTRIBUTES: Final = (
    *[Attributes(True, True, 0x00, 0x1F)] * 16,  # static root of trust
    Attributes(False, False, 0x0F, 0x1F),  # 16: debug
    Attributes(False, True, 0x10, 0x1C),  # 17: DRTM
    Attributes(False, True, 0x10, 0x1C),
    Attributes(False, True, 0x10, 0x0C),
    # The trusted operating system's.  The PC Client profile leaves open whether they have a policy and an
    # authValue; in the reference platform they do.
    Attributes(False, True, 0x1C, 0x0E, True),
    Attributes(False, False, 0x1C, 0x04, True),
    Attributes(False, False, 0x1C, 0x04, True),
    Attributes(False, False, 0x0F, 0x1F),  # 23: applications
)
_SAVED: Final = tuple(index for index, attributes in enumerate(ATTRIBUTES) if attributes.saved)
_OTHERS: Final = tuple(index for index in range(IMPLEMENTATION_PCR) if index not in _SAVED)


class _Bank(Wire):
    alg: UINT16
    allocated: UINT32


class _Permanent(Wire):
    version: UINT8
    banks: Annotated[list[_Bank], ListOf(255, prefix="B")]
    next_banks: Annotated[list[_Bank], ListOf(255, prefix="B")]
    policy_alg: UINT16
    policy: Annotated[bytes, Sized(MAX_DIGEST_SIZE, prefix="B")]


class _Values(Wire):
    alg: UINT16
    values: Annotated[list[Annotated[bytes, Sized(MAX_DIGEST_SIZE, prefix="B")]], ListOf(255, prefix="B")]


class _Volatile(Wire):
    version: UINT8
    counter: UINT32
    auth: Annotated[bytes, Sized(MAX_DIGEST_SIZE, prefix="B"), SECRET]
    banks: Annotated[list[_Values], ListOf(255, prefix="B")]


class _Live(Wire):
    version: UINT8
    launched: FLAG
    banks: Annotated[list[_Values], ListOf(255, prefix="B")]


class Pcrs(Owner):
    """The PCRs, in banks by hash algorithm.  The allocation is permanent; the values are volatile.

    `allocation` gives the mask of a bank's PCRs (bit n for PCR n).  `launched` tells that an H-CRTM measured
    itself into its PCR before the Startup.
    """

    TAG: ClassVar[bytes] = b"pcrs"

    def __init__(self) -> None:
        super().__init__()
        self.allocation: dict[int, int] = dict.fromkeys(PCR_BANKS, ALL_PCRS)
        self.banks = {alg: [bytes(DIGEST_SIZE[alg])] * IMPLEMENTATION_PCR for alg in self.allocation}
        self._next_allocation: dict[int, int] = {}  # what waits for the next power-on, if anything does
        self._policy = (TPM_ALG_NULL, b"")
        self._auth = b""
        self.initial: dict[tuple[int, int], bytes] = {}  # what some begin with, by algorithm and number
        self.counter = 0  # pcrUpdateCounter
        self.launched = False
        self.startup_locality = 0  # of the Startup; the H-CRTM PCR starts with it
        self._initialize(range(IMPLEMENTATION_PCR))

    def read(self, alg: int, index: int) -> bytes:
        """Return the value of a PCR; raises KeyError when the bank does not have it."""
        if not self.allocation[alg] >> index & 1:
            raise KeyError(index)
        return self.banks[alg][index]

    def select(self, selections: Sequence[TPMS_PCR_SELECTION],
               limit: int | None = None) -> tuple[list[TPMS_PCR_SELECTION], list[bytes]]:
        """Return the selections without the PCRs that are not there, and the values in their order.

        With *limit*, only the first *limit* PCRs stay selected (Part 3, 22.4).
        """
        selected: list[TPMS_PCR_SELECTION] = []
        values: list[bytes] = []
        for selection in selections:
            alg = selection.hash
            asked = int.from_bytes(selection.pcr_select, "little") & self.allocation.get(alg, 0)
            given = 0
            while asked and len(values) != limit:
                bit = asked & -asked
                values.append(self.banks[alg][bit.bit_length() - 1])
                given, asked = given | bit, asked ^ bit
            selected.append(TPMS_PCR_SELECTION(alg, given.to_bytes(len(selection.pcr_select), "little")))
        return selected, values

    def composite(self, selections: Sequence[TPMS_PCR_SELECTION],
                  alg: int) -> tuple[list[TPMS_PCR_SELECTION], bytes]:
        """Return the selections without the PCRs that are not there, and the digest of all selected values.

        The values go into the digest in the order of the selections, lowest PCR first (Part 1, 14.5).
        """
        selected, values = self.select(selections)
        return selected, hashes.digest(alg, *values)

    def masks(self) -> dict[int, int]:
        """Return the mask of each bank for TPM_CAP_PCRS: those of PCR_BANKS, and others with a PCR.

        A bank without a PCR may be left out (Part 3, 30.2.1).  All that could be allocated would be more than
        the five that EDK II, the firmware of most virtual machines, takes (Tpm20.h: HASH_COUNT).
        """
        others = {alg: mask for alg, mask in sorted(self.allocation.items()) if mask}
        return {alg: self.allocation.get(alg, 0) for alg in PCR_BANKS} | others

    def allocated(self, index: int) -> list[int]:
        """Return the algorithms of the banks that have the PCR."""
        return [alg for alg, mask in self.allocation.items() if mask >> index & 1]

    def check_extend(self, index: int, locality: int) -> None:
        """Raise TPM_RC_LOCALITY if the PCR cannot be extended from *locality*."""
        if not ATTRIBUTES[index].extend >> locality & 1:
            raise TpmError(TPM_RC_LOCALITY)

    def check_reset(self, index: int, locality: int) -> None:
        """Raise TPM_RC_LOCALITY if the PCR cannot be reset from *locality*.

        Locality 4 resets by a dynamic launch only, never by TPM2_PCR_Reset.
        """
        if locality == 4 or not ATTRIBUTES[index].reset >> locality & 1:
            raise TpmError(TPM_RC_LOCALITY)

    def extend(self, index: int, digests: Iterable[TPMT_HA]) -> None:
        """Extend the PCR with each digest, in the bank of its algorithm if that has it (Part 1, 14.4)."""
        counted = ATTRIBUTES[index].counted
        for digest in digests:
            alg = digest.hash_alg
            if self.allocation.get(alg, 0) >> index & 1:
                bank = self.banks[alg]
                bank[index] = hashes.digest(alg, bank[index], digest.digest)
                if counted:
                    self.counter = (self.counter + 1) & 0xFFFFFFFF

    def reset(self, index: int) -> None:
        """The PCR is zero in every bank; the change counts once, whatever the number of banks."""
        self._set(index, 0)
        self._changed(index)

    def auth(self, handle: int) -> bytes:
        """Return the authValue of a PCR; empty for one outside the group."""
        return self._auth if ATTRIBUTES[handle].grouped else b""

    def set_auth(self, auth_value: bytes) -> None:
        """The PCRs of the group have the authValue; trailing zeros are removed."""
        self._auth = auth_value.rstrip(b"\0")

    def policy(self, handle: int) -> tuple[int, bytes]:
        """Return algorithm and digest of the policy of a PCR; (TPM_ALG_NULL, empty) if there is none."""
        return self._policy if ATTRIBUTES[handle].grouped else (TPM_ALG_NULL, b"")

    def set_policy(self, alg: int, digest: bytes) -> None:
        """The PCRs of the group have the policy; TPM_ALG_NULL and an empty digest remove it."""
        self._policy = (alg, digest)
        self.touch()

    def plan(self, selections: Iterable[TPMS_PCR_SELECTION]) -> dict[int, int]:
        """Return the allocation with the banks of *selections* as they ask, the last for each algorithm.

        Raises TPM_RC_PCR when no bank would have the H-CRTM's PCR or the D-RTM's (Part 3, 22.5).
        """
        masks = dict(self.allocation)
        for chosen in selections:
            masks[chosen.hash] = int.from_bytes(chosen.pcr_select, "little") & ALL_PCRS
        return self._checked(masks)

    def plan_without(self, algs: Container[int]) -> dict[int, int]:
        """Return the allocation of the next power-on without PCRs in the banks of *algs*.

        Raises TPM_RC_PCR as `plan` does.
        """
        coming = self._next_allocation or self.allocation
        return self._checked({alg: 0 if alg in algs else mask for alg, mask in coming.items()})

    def _checked(self, masks: dict[int, int]) -> dict[int, int]:
        for index in (HCRTM_PCR, DRTM_PCR):
            if not any(mask >> index & 1 for mask in masks.values()):
                raise TpmError(TPM_RC_PCR)
        return {alg: mask for alg, mask in sorted(masks.items()) if mask or alg in self.allocation}

    def allocate(self, allocation: dict[int, int]) -> None:
        """The PCRs have *allocation* from the next power-on."""
        self._next_allocation = allocation
        self.touch()

    def leave_out(self, allocation: dict[int, int]) -> None:
        """The PCRs have *allocation*, of `plan_without`, from the next power-on, if it is another."""
        if allocation != (self._next_allocation or self.allocation):
            self.allocate(allocation)

    @property
    def reallocated(self) -> bool:
        """Another allocation waits for the next power-on."""
        return bool(self._next_allocation)

    def apply_allocation(self) -> None:
        """The allocation that waited is in place; its PCRs have no values before a Startup."""
        if self.reallocated:
            self.allocation, self._next_allocation = self._next_allocation, {}
            self.banks = {alg: [bytes(DIGEST_SIZE[alg])] * IMPLEMENTATION_PCR for alg in self.allocation}
            self.touch()

    def launch(self, digests: Iterable[TPMT_HA]) -> None:
        """A dynamic launch measured *digests*: its PCRs are zero, and the first is extended (Part 3, 22.11).

        Only the extension counts as a change.
        """
        for index, attributes in enumerate(ATTRIBUTES):
            if attributes.dynamic:
                self._set(index, 0)
        self.extend(DRTM_PCR, digests)

    def launch_early(self, digests: Iterable[TPMT_HA]) -> None:
        """The H-CRTM measured *digests* before the Startup: PCR 0 is 4, then extended (Part 3, 22.11)."""
        self.launched = True
        self._set(HCRTM_PCR, _HCRTM_LOCALITY)
        self.extend(HCRTM_PCR, digests)

    def _set(self, index: int, value: int) -> None:
        """The PCR has *value* in every bank, as a big-endian number."""
        for alg, bank in self.banks.items():
            bank[index] = value.to_bytes(DIGEST_SIZE[alg], "big")

    def count_change(self) -> None:
        """Policies that looked at PCRs are void, as after TPM2_Clear (Part 3, 24.6)."""
        self.counter = (self.counter + 1) & 0xFFFFFFFF

    def _changed(self, index: int) -> None:
        if ATTRIBUTES[index].counted:
            self.counter = (self.counter + 1) & 0xFFFFFFFF

    def _initialize(self, indices: Iterable[int]) -> None:
        """Give the PCRs their values after a reset: ones if a dynamic launch resets them, else zeros."""
        for index in indices:
            if ATTRIBUTES[index].dynamic:
                for alg, bank in self.banks.items():
                    bank[index] = b"\xff" * DIGEST_SIZE[alg]
            elif index != HCRTM_PCR:
                self._set(index, 0)
            elif not self.launched:
                self._set(index, self.startup_locality)
            self._changed(index)

    def startup(self, start: Start) -> None:
        """PCRs take their initial values, but those that a TPM Resume keeps."""
        if start is Start.RESET:
            self.counter = 0
            self.apply_allocation()
        if start is not Start.RESUME:
            self._auth = b""
        self._initialize(i for i, a in enumerate(ATTRIBUTES) if start is not Start.RESUME or not a.saved)
        if start is not Start.RESUME:
            for (alg, index), value in self.initial.items():
                if self.allocation.get(alg, 0) >> index & 1 and not (index == HCRTM_PCR and self.launched):
                    self.banks[alg][index] = value

    def save(self) -> bytes:
        """Return version, the allocation, what waits for the next power-on (or nothing) and the policy."""
        return encode(_Permanent(
            _FORMAT, [_Bank(alg, mask) for alg, mask in self.allocation.items()],
            [_Bank(alg, mask) for alg, mask in self._next_allocation.items()], *self._policy,
        ))

    def restore(self, state: bytes) -> None:
        found = decode(_Permanent, state)
        if found.version != _FORMAT or any(
                bank.alg not in DIGEST_SIZE for bank in (*found.banks, *found.next_banks)):
            raise ValueError(f"PCR allocation of version {found.version}")
        self.allocation = {bank.alg: bank.allocated for bank in found.banks}
        self._next_allocation = {bank.alg: bank.allocated for bank in found.next_banks}
        self._policy = (found.policy_alg, found.policy)
        self.banks = {alg: self.banks.get(alg, [bytes(DIGEST_SIZE[alg])] * IMPLEMENTATION_PCR)
                      for alg in self.allocation}

    def save_volatile(self) -> bytes:
        """Return version, pcrUpdateCounter, the group's authValue, the values that a TPM Resume restores."""
        return encode(_Volatile(_FORMAT, self.counter, self._auth, self._values(_SAVED)))

    def restore_volatile(self, state: bytes) -> None:
        found = decode(_Volatile, state)
        if found.version != _FORMAT:
            raise ValueError(f"PCR values of version {found.version}")
        self._take(found.banks, _SAVED)
        self.counter, self._auth = found.counter, found.auth

    def save_live(self) -> bytes:
        """Return version, `launched` and the values of the other PCRs."""
        return encode(_Live(_FORMAT, self.launched, self._values(_OTHERS)))

    def restore_live(self, state: bytes) -> None:
        found = decode(_Live, state)
        if found.version != _FORMAT:
            raise ValueError(f"PCR values of version {found.version}")
        self._take(found.banks, _OTHERS)
        self.launched = bool(found.launched)

    def _values(self, indices: Iterable[int]) -> list[_Values]:
        return [_Values(alg, [bank[index] for index in indices]) for alg, bank in self.banks.items()]

    def _take(self, found: Iterable[_Values], indices: Sequence[int]) -> None:
        """The PCRs have the values that `_values` gave for *indices*; ValueError if of other banks."""
        saved = {bank.alg: bank.values for bank in found}
        if saved.keys() != self.allocation.keys() or any(
                [len(value) for value in values] != [DIGEST_SIZE[alg]] * len(indices)
                for alg, values in saved.items()):
            raise ValueError("PCR values of other banks")
        for alg, values in saved.items():
            for index, value in zip(indices, values, strict=True):
                self.banks[alg][index] = value


def selection(alg: int, mask: int) -> TPMS_PCR_SELECTION:
    """Return the selection of the PCRs of *mask* (bit n for PCR n) in the bank of *alg*."""
    return TPMS_PCR_SELECTION(alg, mask.to_bytes(PCR_SELECT_MAX, "little"))
