"""Chips for the manager's tests: our own behind its TIS registers, and a real swtpm."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hwtpm.chip import Chip
from hwtpm.client import Client
from hwtpm.client12 import Client as Client12
from hwtpm.errors import TpmError
from hwtpm.family import family, response_code
from hwtpm.tis.driver import Driver
from hwtpm.tis.mmio import ModelWindow
from hwtpm.tpm2.requests.capability import GetCapability
from hwtpm.tpm2.requests.nv import NVReadPublic
from hwtpm.tpm2.types.attributes import TPM_NT_COUNTER, TPMA_NV_TPM_NT_SHIFT
from hwtpm.tpm2.types.constants import TPM_CAP_HANDLES
from hwtpm.tpm12.requests.capability import GetCapability as GetCapability12
from hwtpm.tpm12.requests.counter import ReadCounter
from hwtpm.tpm12.requests.endorsement import CreateEndorsementKeyPair
from hwtpm.tpm12.types.constants import TPM_CAP_HANDLE, TPM_CAP_NV_LIST, TPM_RT_AUTH, TPM_RT_KEY, TPM_RT_TRANS
from manager.attesting import AttestingChip
from manager.identity12 import Chip12
from manager.identity20 import Chip20
from tests.support.swtpm import Swtpm
from tests.support.tpm12 import STORAGE_PARMS, SharedPrimes

LOCALITY = 2
_NV, _TRANSIENT, _LOADED_SESSIONS = 0x01000000, 0x80000000, 0x02000000
_D_BIT = 0x10000000  # of an NV area that was made with the TPM (Part 2, 19.1)
_COUNTERS = 8  # that a TPM 1.2 has, ours and swtpm's


class BrokenChip(OSError):
    """The way to the chip is gone."""


class TestChip:
    """A chip whose commands can be counted, listened to and cut off.

    `before` sees every command, `after` every command and response and gives the response to use.
    """

    __test__ = False
    family = "2.0"

    def __init__(self) -> None:
        self.codes: list[int] = []
        self.traffic: list[bytes] = []
        self.before: Callable[[int], None] = lambda code: None
        self.after: Callable[[int, bytes], bytes] = lambda code, response: response
        self.client = Client(self.execute, os.urandom)
        self.sealing: AttestingChip = Chip20(self.client, os.urandom)

    def carry(self, command: bytes) -> bytes:
        raise NotImplementedError

    def execute(self, command: bytes) -> bytes:
        code = int.from_bytes(command[6:10], "big")
        self.before(code)
        response = self.carry(command)
        self.codes.append(code)
        self.traffic += [command, response]
        return self.after(code, response)

    def mend(self) -> None:
        """The way to the chip is free again."""
        self.before = lambda code: None
        self.after = lambda code, response: response

    def cut_before(self, wanted: int) -> None:
        """The command *wanted* does not reach the chip any more."""

        def before(code: int) -> None:
            if code == wanted:
                raise BrokenChip

        self.before = before

    def cut_after(self, wanted: int) -> None:
        """The command *wanted* is executed and its response lost, like all that come after it."""
        seen = []

        def after(code: int, response: bytes) -> bytes:
            if code == wanted:
                seen.append(code)
                raise BrokenChip
            return response

        def before(code: int) -> None:
            if seen:
                raise BrokenChip

        self.before, self.after = before, after

    def handles(self, first: int) -> list[int]:
        """Return the handles of one type, from *first* on, that the chip has."""
        found = self.client.run(GetCapability(TPM_CAP_HANDLES, first, 100)).capability_data.data
        return [h for h in found if h >> 24 == first >> 24]

    def counters(self) -> list[int]:
        """Return the counters that the chip has."""
        return [handle for handle in self.handles(_NV) if self._is_counter(handle)]

    def areas(self) -> list[int]:
        """Return the other NV areas that the chip has."""
        return [handle for handle in self.handles(_NV) if not self._is_counter(handle)]

    def _is_counter(self, handle: int) -> bool:
        attributes = self.client.run(NVReadPublic(handle)).nv_public.attributes
        return attributes >> TPMA_NV_TPM_NT_SHIFT & 0xF == TPM_NT_COUNTER

    def nothing_is_loaded(self) -> None:
        """The chip has neither object nor session loaded."""
        assert self.handles(_TRANSIENT) == []
        assert self.handles(_LOADED_SESSIONS) == []

    def close(self) -> None: ...


class OwnChip(TestChip):
    """Our chip, driven through its registers at the manager's locality."""

    locality = LOCALITY

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._primes = SharedPrimes()
        self._power_on()

    def carry(self, command: bytes) -> bytes:
        return self._driver.execute(command, self.locality)

    def power_cycle(self) -> None:
        """Power goes without warning and comes back."""
        self.chip.close()
        self._power_on()

    def _power_on(self) -> None:
        kind = family(self.family)
        self.chip = Chip(self.path, os.urandom, lambda: time.monotonic_ns() // 1_000_000, kind=kind,
                         primes=self._primes)
        self._driver = Driver(ModelWindow(self.chip.tis), clock=time.monotonic, sleep=time.sleep)
        self._driver.probe()
        assert response_code(self._driver.execute(kind.startup["clear"])) == 0

    def close(self) -> None:
        assert self.chip.engine.fault is None
        self.chip.close()


class SwtpmChip(TestChip):
    """A swtpm in the chip's place."""

    def __init__(self) -> None:
        super().__init__()
        self._swtpm = Swtpm()
        self._swtpm.set_locality(LOCALITY)

    def carry(self, command: bytes) -> bytes:
        return self._swtpm.execute(command)

    def close(self) -> None:
        self._swtpm.close()


class TestChip12(TestChip):
    """A chip that is a TPM 1.2."""

    family = "1.2"

    def __init__(self) -> None:
        super().__init__()
        self.client12 = Client12(self.execute, os.urandom)
        self.sealing = Chip12(self.client12, os.urandom, LOCALITY)

    def counters(self) -> list[int]:
        """Return the handles of the counters that the chip has."""
        found = []
        for handle in range(_COUNTERS):
            with suppress(TpmError):
                self.client12.run(ReadCounter(handle))
                found.append(handle)
        return found

    def areas(self) -> list[int]:
        """Return the NV areas that the chip has, but for those that it was made with."""
        found = self.client12.run(GetCapability12(TPM_CAP_NV_LIST, b"")).resp
        numbers = (int.from_bytes(found[at : at + 4], "big") for at in range(0, len(found), 4))
        return [number for number in numbers if not number & _D_BIT]

    def nothing_is_loaded(self) -> None:
        """The chip has neither key nor session loaded."""
        for kind in TPM_RT_KEY, TPM_RT_AUTH, TPM_RT_TRANS:
            listed = self.client12.run(GetCapability12(TPM_CAP_HANDLE, kind.to_bytes(4, "big"))).resp
            assert listed == bytes(2), f"resource type {kind}: {listed.hex()}"


class OwnChip12(OwnChip, TestChip12):
    """Our chip as a TPM 1.2; its RSA keys are of primes that all tests share."""

    family = "1.2"


class SwtpmChip12(TestChip12):
    """A swtpm of TPM 1.2 in the chip's place, with an endorsement key and without an owner."""

    def __init__(self) -> None:
        super().__init__()
        self._swtpm = Swtpm(family="1.2")
        self._swtpm.set_locality(LOCALITY)
        self.client12.run(CreateEndorsementKeyPair(bytes(20), STORAGE_PARMS))

    def carry(self, command: bytes) -> bytes:
        return self._swtpm.execute(command)

    def close(self) -> None:
        self._swtpm.close()


KINDS = ("own-1.2", "swtpm-1.2", "own-2.0", "swtpm-2.0")
"""Every chip that the manager is tried with."""


def chip_of(kind: str, path: Path) -> TestChip:
    """Return the chip of one of KINDS; ours has its NV at *path*."""
    if kind.startswith("own"):
        return OwnChip12(path) if kind == "own-1.2" else OwnChip(path)
    return SwtpmChip12() if kind == "swtpm-1.2" else SwtpmChip()
