"""A manager with an administrator's and vTPMs' endpoints, for tests of groups."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import pytest

from hwtpm.client import Password
from hwtpm.tpm2.requests.pcr import PCRExtend
from hwtpm.tpm2.types.constants import TPM_ALG_SHA256
from hwtpm.tpm2.types.structures import TPMT_HA
from hwtpm.tpm12.requests.integrity import Extend
from hwtpm.wire import Wire
from manager import requests as r
from manager.manager import Manager
from manager.protocol import Endpoint
from manager.quote import Meaning
from manager.service import Service
from manager.vtpms import Connection
from tests.manager.chips import TestChip, TestChip12
from tests.support.saa import Saa, kernel

R = TypeVar("R", bound=Wire)
LABEL = b"L" * 20
PCRS = b"\xff\0\0"
KERNEL_LABEL = "system_u:system_r:vtpm_t"
KERNEL = kernel(KERNEL_LABEL)


class Host:
    """A manager that is open, its chip and its store; `admin` is the administrator's endpoint."""

    def __init__(self, chip: TestChip, path: Path, *, meaning: Meaning | None = None,
                 auto_create: bool = True, guests_administrate: bool = True) -> None:
        self.chip, self.path, self.family = chip, path, chip.family
        self._how: dict[str, Any] = {
            "meaning": None if meaning is None else lambda: meaning,
            "guests_administrate": guests_administrate}
        self._auto_create = auto_create
        self.saa = Saa(chip.family)
        self.open()

    def open(self) -> None:
        """The manager starts."""
        self.manager = Manager(self.path, self.chip.sealing, os.urandom, auto_create=self._auto_create)
        self.serve()

    def serve(self) -> None:
        """The manager has endpoints."""
        self.service = Service(
            self.manager, self.chip.sealing, lambda: self.chip.sealing, os.urandom, **self._how)
        self.admin = Endpoint(self.service, Connection(None, "the administrator", administrator=True))

    def close(self) -> None:
        """The manager ends."""
        self.manager.close()
        self.chip.nothing_is_loaded()

    def restart(self, *, power: bool = False) -> None:
        """The manager ends and starts again, and with *power* the chip as well."""
        self.close()
        if power:
            self.chip.power_cycle()  # type: ignore[attr-defined]
        self.open()

    def guest(self, uuid: UUID, label: str = KERNEL_LABEL) -> Endpoint:
        """Return what the vTPM sees."""
        return Endpoint(self.service, Connection(uuid, f"guest {uuid.int:x}", label))

    def ask(self, request: r.Request[R], endpoint: Endpoint | None = None) -> R:
        """Return the response to *request*, the administrator's if no endpoint is given."""
        octets = (endpoint or self.admin).execute(r.pack_request(request))
        response = r.read_response(request, octets)
        assert octets[:2] == b"\x01\xc4"
        return response

    def refused(self, code: int, request: r.Request[Any], endpoint: Endpoint | None = None) -> None:
        """The request gets that return code, and the store is as it was."""
        before = state(self.manager)
        with pytest.raises(r.Refusal) as caught:
            self.ask(request, endpoint)
        assert caught.value.code == code, caught.value
        assert state(self.manager) == before
        self.chip.nothing_is_loaded()

    def new_group(self, saa: Saa | None = None) -> r.GroupNewResponse:
        return self.ask(r.GroupNew(LABEL, (saa or self.saa).modulus))

    def update(self, index: int, sequence: int, platforms: list[bytes] | None = None,
               kernels: tuple[bytes, ...] = (KERNEL,), saa: Saa | None = None,
               pcrs: bytes = PCRS) -> r.GroupUpdate:
        """Return the request for a list of *platforms*, those of *pcrs*; the present one if not given."""
        hashes = [self.platform(pcrs)] if platforms is None else platforms
        signed = (saa or self.saa).update(sequence, [(pcrs, found) for found in hashes], list(kernels))
        return r.GroupUpdate(index, signed[:256], signed[256:])

    def platform(self, pcrs: bytes = PCRS) -> bytes:
        """Return the hash of the configuration that the machine is in."""
        with self.chip.sealing.conversation(None) as talk:
            return talk.platform(pcrs).digest

    def extend(self, number: int, digest: bytes) -> None:
        """Something is measured."""
        if isinstance(self.chip, TestChip12):
            self.chip.client12.run(Extend(number, digest[:20].ljust(20, b"\0")))
        else:
            self.chip.client.run(
                PCRExtend(number, [TPMT_HA(TPM_ALG_SHA256, digest[:32].ljust(32, b"\0"))]), Password())


def state(manager: Manager) -> tuple[object, ...]:
    """Return all that the store holds."""
    rows = manager._ledger.book.rows
    return dict(rows.seals), dict(rows.groups), dict(rows.vtpms)


def uuids(octets: bytes) -> list[UUID]:
    """Return the UUIDs of VTPM_LIST."""
    return [UUID(bytes=octets[at : at + 16]) for at in range(0, len(octets), 16)]
