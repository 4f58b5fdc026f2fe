"""Nothing that a guest sends makes the TPM's memory grow without bound."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from random import Random

import pytest

from hwtpm.client import Password
from hwtpm.errors import TpmError
from hwtpm.tpm2.context import COMMANDS
from hwtpm.tpm2.profile import MAX_ACTIVE_SESSIONS, MAX_LOADED_OBJECTS
from hwtpm.tpm2.requests.context import ContextLoad, ContextSave, FlushContext
from hwtpm.tpm2.requests.hierarchy import CreatePrimary
from hwtpm.tpm2.requests.nv import NVDefineSpace, NVRead, NVUndefineSpace, NVWrite
from hwtpm.tpm2.requests.pcr import PCRExtend
from hwtpm.tpm2.requests.policy import PolicyNameHash, PolicyOR
from hwtpm.tpm2.requests.sequence import HashSequenceStart, SequenceComplete, SequenceUpdate
from hwtpm.tpm2.types import constants as c
from hwtpm.tpm2.types.algorithms import TPMS_SENSITIVE_CREATE
from hwtpm.tpm2.types.attributes import TPMA_NV_AUTHREAD, TPMA_NV_AUTHWRITE
from hwtpm.tpm2.types.handles import TPM_RH_NULL, TPM_RH_OWNER
from hwtpm.tpm2.types.nv import TPMS_NV_PUBLIC
from hwtpm.tpm2.types.structures import TPMT_HA
from tests.support.templates import SEALED, ecc, keyed_hash
from tests.support.tpm2 import Machine, started

COMMANDS_SENT = 20_000
WARM = 5_000
MAX_GROWTH = 1 << 20  # octets; a quarter of it is usual
NONE = Password()
PAGE = os.sysconf("SC_PAGE_SIZE")
STATM = Path("/proc/self/statm")


def resident() -> int:
    gc.collect()
    return int(STATM.read_text().split()[1]) * PAGE


def sent(machine: Machine) -> Iterator[int]:
    """Do the same things, each time a little different, and yield the number of commands so far."""
    run, chosen = machine.run, Random(7)
    commands = 0
    execute = machine.client._execute

    def counted(command: bytes, /) -> bytes:
        nonlocal commands
        commands += 1
        return execute(command)

    machine.client._execute = counted
    saved: list[object] = []
    for number in count():
        unique = number.to_bytes(8, "big")
        # A session that is used, saved, and half of the time never loaded again but flushed.
        session = machine.client.start_session(c.TPM_SE_POLICY)
        run(PolicyOR(session.handle, [bytes(32), unique * 4]))
        run(PolicyNameHash(session.handle, unique * 4))
        run(ContextSave(session.handle))
        run(FlushContext(session.handle))
        # A sequence that is saved and left.
        sequence = run(HashSequenceStart(unique, c.TPM_ALG_SHA256)).sequence_handle
        run(SequenceUpdate(sequence, bytes(1000)), Password(unique.rstrip(b"\0")))
        context = run(ContextSave(sequence)).context
        run(FlushContext(sequence))
        if number % 3 == 0:
            again = run(ContextLoad(context)).loaded_handle
            run(SequenceComplete(again, unique, TPM_RH_NULL), Password(unique.rstrip(b"\0")))
        # A primary of a template that was never seen before.
        if number % 2:
            template, data = keyed_hash(SEALED), unique
        else:
            template, data = ecc(x=unique), b""
        given = TPMS_SENSITIVE_CREATE(b"", data)
        made = run(CreatePrimary(TPM_RH_NULL, given, template, b"", []), NONE).object_handle
        saved.append(run(ContextSave(made)).context)
        run(FlushContext(made))
        if len(saved) > 5:
            made = run(ContextLoad(saved.pop(chosen.randrange(len(saved))))).loaded_handle
            run(FlushContext(made))
        # An NV Index, another handle each time.
        index = 0x01000000 | number & 0xFFFF
        public = TPMS_NV_PUBLIC(index, c.TPM_ALG_SHA256, TPMA_NV_AUTHREAD | TPMA_NV_AUTHWRITE, b"", 64)
        run(NVDefineSpace(TPM_RH_OWNER, b"", public), NONE)
        run(NVWrite(index, index, unique, 0), NONE)
        run(NVRead(index, index, 8, 0), NONE)
        run(NVUndefineSpace(TPM_RH_OWNER, index), NONE)
        run(PCRExtend(number % 16, [TPMT_HA(c.TPM_ALG_SHA256, unique * 4)]), NONE)
        # Handles and octets that mean nothing.
        with pytest.raises(TpmError):
            run(FlushContext(0x80000000 | number & 0xFFFFFF))
        with pytest.raises(TpmError):
            run(NVRead(index, index, 8, number & 0xFFFF), NONE)
        counted(b"\x80\2" + (30).to_bytes(4, "big") + chosen.choice(sorted(COMMANDS)).to_bytes(4, "big")
                + chosen.randbytes(20))
        yield commands


@pytest.mark.skipif(not STATM.exists(), reason="no /proc")
def test_twenty_thousand_mixed_commands_keep_the_memory_bounded() -> None:
    machine = started()
    steps = sent(machine)
    while next(steps) < WARM:
        pass
    before = resident()
    while next(steps) < COMMANDS_SENT:
        pass
    grown = resident() - before
    assert grown < MAX_GROWTH, f"{grown} octets more"
    tpm = machine.tpm
    assert len(tpm.objects._primaries) <= 32
    assert len(tpm.objects.answers) <= 32
    assert len(tpm.sessions.loaded) + len(tpm.sessions.saved) <= MAX_ACTIVE_SESSIONS
    assert len(tpm.objects.transient) <= MAX_LOADED_OBJECTS
    plans = [entry.plan for entry in COMMANDS.values()]
    assert max(len(plan.known_handles) for plan in plans) <= 256
    assert len(machine.engine.snapshot()) < 10_000
