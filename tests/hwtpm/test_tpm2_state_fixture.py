"""The state of every version of the format can be loaded, and means what it meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hwtpm.client import Password
from hwtpm.crypto import hashes
from hwtpm.tpm2.engine import PERMANENT_VERSION
from hwtpm.tpm2.requests.capability import GetCapability
from hwtpm.tpm2.requests.clock import ReadClock
from hwtpm.tpm2.requests.hierarchy import Clear, CreatePrimary, HierarchyChangeAuth
from hwtpm.tpm2.requests.nv import NVIncrement, NVRead
from hwtpm.tpm2.requests.object import ReadPublic, Unseal
from hwtpm.tpm2.requests.pcr import PCRRead
from hwtpm.tpm2.requests.signing import Sign, VerifySignature
from hwtpm.tpm2.requests.startup import Startup
from hwtpm.tpm2.types import constants as c
from hwtpm.tpm2.types.algorithms import TPMS_SENSITIVE_CREATE, TPMT_SIG_SCHEME
from hwtpm.tpm2.types.handles import TPM_RH_ENDORSEMENT, TPM_RH_LOCKOUT, TPM_RH_NULL, TPM_RH_OWNER
from hwtpm.tpm2.types.structures import TPMS_PCR_SELECTION, TPMT_TK_HASHCHECK
from tests.support.templates import storage
from tests.support.tpm2 import Machine, refused
from tests.support.tpm2_state_fixture import (
    BITS,
    COUNTER,
    DIGEST,
    EXTENDED,
    KEY,
    LOCK,
    NV,
    ORDERLY,
    ORDINARY,
    OWNER,
    PIN,
    SEALED,
    SIGNING,
    STORAGE,
)

FILES = sorted((Path(__file__).resolve().parents[1] / "vectors").glob("state-*.json"))


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
@pytest.mark.parametrize("startup", ["state", "clear"])
def test_a_stored_state_is_read(path: Path, startup: str) -> None:
    stored = json.loads(path.read_text())
    m = Machine(b"load", bytes.fromhex(stored["snapshot"]))
    resumed = startup == "state"
    m.run(Startup(c.TPM_SU_STATE if resumed else c.TPM_SU_CLEAR))

    def read(index: int, size: int, auth: Password = NV) -> bytes:
        return m.run(NVRead(index, index, size, 0), auth).data

    assert read(ORDINARY, 20) == b"\0an ordinary Index\0\0"
    assert read(COUNTER, 8) == bytes(7) + b"\3"
    m.run(NVIncrement(COUNTER, COUNTER), NV)
    assert read(BITS, 8) == bytes(6) + b"\x80\1"
    assert read(EXTENDED, 32) == hashes.digest(c.TPM_ALG_SHA256, bytes(32), b"measured")
    assert read(PIN, 8) == bytes(7) + b"\5"
    # A Restart, which this Startup(CLEAR) is after a Shutdown(STATE), keeps orderly data too.
    assert read(ORDERLY, 4) == b"ram!"
    for handle, name in stored["names"].items():
        assert m.run(ReadPublic(int(handle, 16))).name.hex() == name
    assert m.run(Unseal(SEALED), KEY).out_data == b"sealed data"
    signed = m.run(Sign(SIGNING, DIGEST, TPMT_SIG_SCHEME(c.TPM_ALG_NULL),
                        TPMT_TK_HASHCHECK(c.TPM_ST_HASHCHECK, TPM_RH_NULL, b"")), KEY)
    m.run(VerifySignature(SIGNING, DIGEST, signed.signature))
    again = m.run(CreatePrimary(TPM_RH_OWNER, TPMS_SENSITIVE_CREATE(b"key", b""), storage(), b"", []), OWNER)
    assert again.name.hex() == stored["names"][f"{STORAGE:08x}"]
    with refused(c.TPM_RC_BAD_AUTH | 0x900):
        m.run(HierarchyChangeAuth(TPM_RH_OWNER, b""), Password())
    with refused(c.TPM_RC_DISABLED):
        m.run(Clear(TPM_RH_LOCKOUT), LOCK)
    value = m.run(PCRRead([TPMS_PCR_SELECTION(c.TPM_ALG_SHA256, b"\1\0\0")])).pcr_values[0]
    assert value == (hashes.digest(c.TPM_ALG_SHA256, bytes(32), DIGEST) if resumed else bytes(32))
    assert m.run(ReadClock()).current_time.clock_info.clock >= 10_000_000_000

    def capability(group: int, first: int, count: int = 1) -> list[object]:
        found: list[object] = m.run(GetCapability(group, first, count)).capability_data.data
        return found

    (tries, limit, interval, recovery) = (
        capability(c.TPM_CAP_TPM_PROPERTIES, tag)[0].value  # type: ignore[attr-defined]
        for tag in (c.TPM_PT_LOCKOUT_COUNTER, c.TPM_PT_MAX_AUTH_FAIL, c.TPM_PT_LOCKOUT_INTERVAL,
                    c.TPM_PT_LOCKOUT_RECOVERY))
    assert (tries, limit, interval, recovery) == (1, 7, 1000, 2000)
    assert c.TPM_CC_GetRandom in capability(c.TPM_CAP_AUDIT_COMMANDS, 0, 10)
    policies = {p.handle: p.policy_hash.digest  # type: ignore[attr-defined]
                for p in capability(c.TPM_CAP_AUTH_POLICIES, TPM_RH_OWNER, 9)}
    assert policies[TPM_RH_ENDORSEMENT] == DIGEST
    banks = {s.hash: s.pcr_select for s in capability(c.TPM_CAP_PCRS, 0, 9)}  # type: ignore[attr-defined]
    assert banks[c.TPM_ALG_SHA384] == b"\1\0\0"


def test_there_is_a_file_of_today() -> None:
    """A change of the format needs a new version, with a file of its own (tests/support)."""
    versions = [json.loads(path.read_text())["version"] for path in FILES]
    assert versions == list(range(1, PERMANENT_VERSION + 1))
