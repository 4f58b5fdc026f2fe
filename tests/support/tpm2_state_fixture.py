"""Makes tests/vectors/state-N.json: `python -m tests.support.tpm2_state_fixture > FILE`.

Only for a new version of the format: the files of older versions stay as they are.
"""

from __future__ import annotations

import json
import sys

from hwtpm.client import Password
from hwtpm.tpm2.engine import PERMANENT_VERSION
from hwtpm.tpm2.requests.audit import SetCommandCodeAuditStatus
from hwtpm.tpm2.requests.clock import ClockSet
from hwtpm.tpm2.requests.context import EvictControl, FlushContext
from hwtpm.tpm2.requests.dictionary_attack import DictionaryAttackParameters
from hwtpm.tpm2.requests.hierarchy import ClearControl, CreatePrimary, HierarchyChangeAuth, SetPrimaryPolicy
from hwtpm.tpm2.requests.nv import NVDefineSpace, NVExtend, NVIncrement, NVRead, NVSetBits, NVWrite
from hwtpm.tpm2.requests.object import ReadPublic
from hwtpm.tpm2.requests.pcr import PCRAllocate, PCRExtend
from hwtpm.tpm2.requests.startup import Shutdown, Startup
from hwtpm.tpm2.types import attributes as a
from hwtpm.tpm2.types import constants as c
from hwtpm.tpm2.types.algorithms import TPMS_SENSITIVE_CREATE
from hwtpm.tpm2.types.handles import TPM_RH_ENDORSEMENT, TPM_RH_LOCKOUT, TPM_RH_OWNER, TPM_RH_PLATFORM
from hwtpm.tpm2.types.nv import TPMS_NV_PUBLIC
from hwtpm.tpm2.types.structures import TPMS_PCR_SELECTION, TPMT_HA
from tests.support.templates import ecc, keyed_hash, rsa, storage
from tests.support.tpm2 import Machine, refused, started

ORDINARY, COUNTER, BITS, EXTENDED, ORDERLY, PIN = range(0x01500001, 0x01500007)
STORAGE, SEALED, SIGNING, RSA = 0x81000001, 0x81800001, 0x81000002, 0x81000003
OWNER, KEY, NV, LOCK = Password(b"owner"), Password(b"key"), Password(b"nv"), Password(b"lock")
NONE = Password()
ACCESS = a.TPMA_NV_AUTHREAD | a.TPMA_NV_AUTHWRITE | a.TPMA_NV_OWNERREAD | a.TPMA_NV_OWNERWRITE
DIGEST = bytes(range(32))


def make() -> Machine:
    """Return a TPM with something of everything, after Shutdown(STATE)."""
    m = started(b"state fixture")
    run = m.run
    run(PCRAllocate(TPM_RH_PLATFORM, [TPMS_PCR_SELECTION(c.TPM_ALG_SHA384, b"\1\0\0")]), NONE)
    run(Shutdown(c.TPM_SU_CLEAR))
    m.power_cycle()
    run(Startup(c.TPM_SU_CLEAR))
    kinds = ((ORDINARY, a.TPM_NT_ORDINARY, 0, 20), (COUNTER, a.TPM_NT_COUNTER, 0, 8),
             (BITS, a.TPM_NT_BITS, 0, 8), (EXTENDED, a.TPM_NT_EXTEND, 0, 32),
             (ORDERLY, a.TPM_NT_ORDINARY, a.TPMA_NV_ORDERLY, 4))
    for handle, kind, more, size in kinds:
        bits = ACCESS | more | kind << a.TPMA_NV_TPM_NT_SHIFT
        public = TPMS_NV_PUBLIC(handle, c.TPM_ALG_SHA256, bits, DIGEST, size)
        run(NVDefineSpace(TPM_RH_OWNER, b"nv", public), NONE)
    bits = (a.TPMA_NV_AUTHREAD | a.TPMA_NV_OWNERWRITE | a.TPMA_NV_OWNERREAD | a.TPMA_NV_NO_DA
            | a.TPM_NT_PIN_FAIL << a.TPMA_NV_TPM_NT_SHIFT)
    run(NVDefineSpace(TPM_RH_OWNER, b"nv", TPMS_NV_PUBLIC(PIN, c.TPM_ALG_SHA256, bits, b"", 8)), NONE)
    run(NVWrite(ORDINARY, ORDINARY, b"an ordinary Index", 1), NV)
    for _ in range(3):
        run(NVIncrement(COUNTER, COUNTER), NV)
    run(NVSetBits(BITS, BITS, 0x8001), NV)
    run(NVExtend(EXTENDED, EXTENDED, b"measured"), NV)
    run(NVWrite(ORDERLY, ORDERLY, b"ram!", 0), NV)
    run(NVWrite(TPM_RH_OWNER, PIN, bytes(7) + b"\5", 0), NONE)
    for place, hierarchy, template, data in (
        (STORAGE, TPM_RH_OWNER, storage(), b""), (SEALED, TPM_RH_PLATFORM, keyed_hash(), b"sealed data"),
        (SIGNING, TPM_RH_OWNER, ecc(scheme=c.TPM_ALG_ECDSA), b""), (RSA, TPM_RH_OWNER, rsa(bits=1024), b""),
    ):
        given = TPMS_SENSITIVE_CREATE(b"key", data)
        made = run(CreatePrimary(hierarchy, given, template, b"", []), NONE).object_handle
        by = TPM_RH_PLATFORM if hierarchy == TPM_RH_PLATFORM else TPM_RH_OWNER
        run(EvictControl(by, made, place), NONE)
        run(FlushContext(made))
    run(PCRExtend(0, [TPMT_HA(c.TPM_ALG_SHA256, DIGEST)]), NONE)
    run(ClockSet(TPM_RH_OWNER, 10_000_000_000), NONE)
    run(SetCommandCodeAuditStatus(TPM_RH_OWNER, c.TPM_ALG_NULL, [c.TPM_CC_GetRandom], []), NONE)
    run(SetPrimaryPolicy(TPM_RH_ENDORSEMENT, DIGEST, c.TPM_ALG_SHA256), NONE)
    run(ClearControl(TPM_RH_PLATFORM, 1), NONE)
    run(DictionaryAttackParameters(TPM_RH_LOCKOUT, 7, 1000, 2000), NONE)
    run(HierarchyChangeAuth(TPM_RH_LOCKOUT, b"lock"), NONE)
    run(HierarchyChangeAuth(TPM_RH_OWNER, b"owner"), NONE)
    with refused(c.TPM_RC_AUTH_FAIL | 0x900):
        run(NVRead(ORDINARY, ORDINARY, 1, 0), Password(b"wrong"))
    run(Shutdown(c.TPM_SU_STATE))
    return m


def main() -> None:
    """Write the fixture to standard output."""
    made = make()
    assert made.durable is not None
    snapshot = made.durable
    # After a Resume the same TPM says what the test will ask for.
    made.power_cycle()
    made.run(Startup(c.TPM_SU_STATE))
    names = {f"{h:08x}": made.run(ReadPublic(h)).name.hex() for h in (STORAGE, SEALED, SIGNING, RSA)}
    json.dump({"version": PERMANENT_VERSION, "names": names, "snapshot": snapshot.hex()}, sys.stdout,
              indent=1)
    print()


if __name__ == "__main__":
    main()
