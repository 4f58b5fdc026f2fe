"""Makes tests/vectors/running-N.json: `python -m tests.support.tpm2_running_fixture > FILE`.

Only for a new version of the format: the files of older versions stay as they are.
"""

from __future__ import annotations

import json
import sys

from hwtpm.client import Password
from hwtpm.tpm2.engine import RUNNING_VERSION
from hwtpm.tpm2.requests.audit import SetCommandCodeAuditStatus
from hwtpm.tpm2.requests.capability import GetCapability
from hwtpm.tpm2.requests.clock import ClockRateAdjust, ReadClock
from hwtpm.tpm2.requests.context import ContextSave, FlushContext
from hwtpm.tpm2.requests.countdown import ACTSetTimeout
from hwtpm.tpm2.requests.ephemeral import Commit
from hwtpm.tpm2.requests.hierarchy import CreatePrimary, HierarchyChangeAuth, HierarchyControl
from hwtpm.tpm2.requests.nv import NVDefineSpace, NVRead, NVWrite
from hwtpm.tpm2.requests.object import LoadExternal, ReadPublic, Unseal
from hwtpm.tpm2.requests.pcr import PCRExtend, PCRRead
from hwtpm.tpm2.requests.policy import PolicyCommandCode, PolicyGetDigest, PolicySecret
from hwtpm.tpm2.requests.random import GetRandom
from hwtpm.tpm2.requests.sequence import (
    EventSequenceComplete,
    HashSequenceStart,
    HMACStart,
    MACStart,
    SequenceComplete,
    SequenceUpdate,
)
from hwtpm.tpm2.requests.testing import IncrementalSelfTest
from hwtpm.tpm2.types import attributes as a
from hwtpm.tpm2.types import constants as c
from hwtpm.tpm2.types.algorithms import TPMS_ECC_POINT, TPMS_SENSITIVE_CREATE
from hwtpm.tpm2.types.handles import (
    TPM_RH_ACT_0,
    TPM_RH_ENDORSEMENT,
    TPM_RH_LOCKOUT,
    TPM_RH_NULL,
    TPM_RH_OWNER,
    TPM_RH_PLATFORM,
)
from hwtpm.tpm2.types.nv import TPMS_NV_PUBLIC
from hwtpm.tpm2.types.structures import TPMS_PCR_SELECTION, TPMT_HA
from tests.support import templates
from tests.support.tpm2 import Machine, refused, started
from tests.support.tpm2_keys import cipher, keyed_hash
from tests.support.tpm2_running import daa

NONE, KEY = Password(), Password(b"key")
INDEX, SESSION = 0x01500001, 0x03000001
MESSAGE = bytes(range(256)) * 4


def make() -> Machine:
    """Return a running TPM with something of everything that lives until power goes."""
    m = started(b"running fixture")
    run = m.run
    # Objects 0 to 4, then sequences in every place after them.
    for hierarchy, template, data in ((TPM_RH_OWNER, templates.storage(), b""),
                                      (TPM_RH_NULL, templates.keyed_hash(), b"sealed data"),
                                      (TPM_RH_ENDORSEMENT, daa(), b"")):
        run(CreatePrimary(hierarchy, TPMS_SENSITIVE_CREATE(b"key", data), template, b"", []), NONE)
    for public, sensitive in (keyed_hash(a.TPMA_OBJECT_SIGN), cipher(a.TPMA_OBJECT_SIGN)):
        run(LoadExternal(sensitive, public, TPM_RH_NULL))
    for alg in (c.TPM_ALG_SHA1, c.TPM_ALG_SHA256, c.TPM_ALG_SHA384, c.TPM_ALG_SHA512, c.TPM_ALG_SHA3_384,
                c.TPM_ALG_NULL):
        run(HashSequenceStart(b"", alg))
    run(HMACStart(0x80000003, b"", c.TPM_ALG_NULL), NONE)
    run(MACStart(0x80000004, b"", c.TPM_ALG_CMAC), NONE)
    for handle in range(0x80000005, 0x8000000D):
        run(SequenceUpdate(handle, MESSAGE[:300]), NONE)
    run(Commit(0x80000002, TPMS_ECC_POINT(b"", b""), b"", b""), KEY)
    audited = m.client.start_session()
    m.client.start_session(c.TPM_SE_POLICY)
    saved = m.client.start_session()
    run(ContextSave(saved.handle))
    audited.attributes |= a.TPMA_SESSION_AUDIT
    run(GetRandom(4), audited)
    run(PolicyCommandCode(SESSION, c.TPM_CC_NV_Read))
    bits = a.TPMA_NV_AUTHREAD | a.TPMA_NV_AUTHWRITE | a.TPMA_NV_ORDERLY
    run(NVDefineSpace(TPM_RH_OWNER, b"nv", TPMS_NV_PUBLIC(INDEX, c.TPM_ALG_SHA256, bits, b"", 4)), NONE)
    run(NVWrite(INDEX, INDEX, b"ram!", 0), Password(b"nv"))
    run(SetCommandCodeAuditStatus(TPM_RH_OWNER, c.TPM_ALG_NULL, [c.TPM_CC_PCR_Read], []), NONE)
    run(HierarchyChangeAuth(TPM_RH_LOCKOUT, b"lock"), NONE)
    run(HierarchyChangeAuth(TPM_RH_PLATFORM, b"platform"), NONE)
    run(HierarchyControl(TPM_RH_PLATFORM, TPM_RH_ENDORSEMENT, 0), Password(b"platform"))
    with refused(c.TPM_RC_AUTH_FAIL | 0x900):
        run(NVRead(INDEX, INDEX, 1, 0), Password(b"wrong"))
    run(IncrementalSelfTest([c.TPM_ALG_SHA256]))
    run(ACTSetTimeout(TPM_RH_ACT_0, 1000), Password(b"platform"))
    run(ClockRateAdjust(TPM_RH_OWNER, 3), NONE)
    for index in (0, 16, 23):
        run(PCRExtend(index, [TPMT_HA(c.TPM_ALG_SHA256, bytes([index]) * 32)]), NONE)
    m.engine.hash_start()
    m.engine.hash_data(MESSAGE)
    m.clock.advance(123_456)
    return m


def ask(m: Machine) -> list[bytes]:
    """Ask for what `make` left, and return the responses."""
    kept: list[bytes] = []
    execute = m.client._execute

    def recorded(command: bytes, /) -> bytes:
        response = execute(command)
        kept.append(response)
        return response

    m.client._execute = recorded
    run = m.run
    run(ReadClock())
    for kind in (0x02, 0x03, 0x80):
        run(GetCapability(c.TPM_CAP_HANDLES, kind << 24, 100))
    run(GetCapability(c.TPM_CAP_ACT, TPM_RH_ACT_0, 9))
    run(GetCapability(c.TPM_CAP_TPM_PROPERTIES, c.TPM_PT_STARTUP_CLEAR, 1))
    run(GetCapability(c.TPM_CAP_TPM_PROPERTIES, c.TPM_PT_LOCKOUT_COUNTER, 1))
    for handle in (0x80000000, 0x80000001, 0x80000003, 0x80000004):
        run(ReadPublic(handle))
    run(Unseal(0x80000001), KEY)
    for handle in (*range(0x80000005, 0x8000000A), 0x8000000B, 0x8000000C):
        run(SequenceComplete(handle, MESSAGE[300:], TPM_RH_OWNER), NONE)
    run(EventSequenceComplete(16, 0x8000000A, MESSAGE[300:]), NONE, NONE)
    run(PolicyGetDigest(SESSION))
    run(PolicySecret(TPM_RH_PLATFORM, SESSION, b"", b"", b"", 0), Password(b"platform"))
    run(PolicyGetDigest(SESSION))
    run(NVRead(INDEX, INDEX, 4, 0), Password(b"nv"))
    m.engine.hash_end()
    run(PCRRead([TPMS_PCR_SELECTION(c.TPM_ALG_SHA256, b"\1\0\x83")]))
    run(FlushContext(0x02000000))
    return kept


def main() -> None:
    """Write the fixture to standard output."""
    made = make()
    running, snapshot = made.engine.snapshot_running(), made.engine.snapshot()
    json.dump({"version": RUNNING_VERSION, "snapshot": snapshot.hex(), "running": running.hex(),
               "responses": [response.hex() for response in ask(made)]}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
