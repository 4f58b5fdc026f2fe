"""Cases that move few octets and use no key pair: what costs here is the way to the TPM."""

from __future__ import annotations

import hashlib
from random import Random

from hwtpm.client import Password
from hwtpm.tpm2.requests.context import FlushContext
from hwtpm.tpm2.requests.nv import NVDefineSpace, NVRead, NVReadPublic, NVUndefineSpace, NVWrite
from hwtpm.tpm2.requests.object import ReadPublic
from hwtpm.tpm2.requests.pcr import PCRExtend, PCRRead
from hwtpm.tpm2.requests.policy import PolicyGetDigest, PolicyPCR
from hwtpm.tpm2.requests.random import GetRandom
from hwtpm.tpm2.requests.symmetric import Hash
from hwtpm.tpm2.types.attributes import TPMA_NV_AUTHREAD, TPMA_NV_AUTHWRITE, TPMA_NV_NO_DA
from hwtpm.tpm2.types.constants import TPM_ALG_SHA256, TPM_SE_POLICY, TPM_CC_PolicyPCR
from hwtpm.tpm2.types.handles import TPM_RH_NULL, TPM_RH_OWNER
from hwtpm.tpm2.types.nv import TPMS_NV_PUBLIC
from hwtpm.tpm2.types.structures import TPMT_HA
from hwtpm.wire import encode
from tests.bench.case import (
    OWNER_AUTH,
    SMALL,
    STORAGE,
    Bounds,
    Case,
    create_primary,
    ecc_template,
    expect,
    name_of,
    select,
    sha256,
)
from tests.bench.peers import Peer

_PCR = 16  # the debug PCR, at zero after Startup


class GetRandomCase(Case):
    name, bounds = "get_random", SMALL

    def __init__(self, tpm: Peer) -> None:
        super().__init__(tpm)
        self._seen: set[bytes] = set()

    def once(self, rng: Random) -> None:
        size = rng.randrange(8, 33)
        found = self.tpm.timed(GetRandom(size)).random_bytes
        expect(len(found) == size, f"{len(found)} random octets instead of {size}")
        expect(found not in self._seen, "random octets that were there before")
        self._seen.add(found)


class PcrReadCase(Case):
    """Reads one PCR after the other; PCRs 0 to 15 of the SHA-256 bank are zero after Startup."""

    name, bounds = "pcr_read", SMALL

    def once(self, rng: Random) -> None:
        selection = select(rng.randrange(16))
        found = self.tpm.timed(PCRRead(selection))
        expect(found.pcr_selection_out == selection, "another PCR than was asked for")
        expect(found.pcr_values == [bytes(32)], "a PCR that is not zero")


class PcrExtendCase(Case):
    name, bounds = "pcr_extend", SMALL

    def __init__(self, tpm: Peer) -> None:
        super().__init__(tpm)
        self._replayed = self._value()

    def once(self, rng: Random) -> None:
        digest = rng.randbytes(32)
        self.tpm.timed(PCRExtend(_PCR, [TPMT_HA(TPM_ALG_SHA256, digest)]), Password())
        self._replayed = sha256(self._replayed, digest)

    def check(self) -> None:
        expect(self._value() == self._replayed, "the PCR is not what the extends make of it")

    def _value(self) -> bytes:
        return self.tpm.run(PCRRead(select(_PCR))).pcr_values[0]


class HashCase(Case):
    name, bounds = "hash_64B", SMALL
    size = 64

    def once(self, rng: Random) -> None:
        data = rng.randbytes(self.size)
        found = self.tpm.timed(Hash(data, TPM_ALG_SHA256, TPM_RH_NULL)).out_hash
        expect(found == hashlib.sha256(data).digest(), "a wrong digest")


class HashKibCase(HashCase):
    name = "hash_1KiB"
    size = 1024


class ReadPublicCase(Case):
    name, bounds = "read_public", SMALL

    def __init__(self, tpm: Peer) -> None:
        super().__init__(tpm)
        self._keys = [create_primary(tpm, ecc_template(STORAGE, x=bytes([i]))) for i in range(2)]

    def once(self, rng: Random) -> None:
        key = rng.choice(self._keys)
        found = self.tpm.timed(ReadPublic(key.object_handle))
        expect(found.name == key.name == name_of(found.out_public), "a wrong name")

    def close(self) -> None:
        self.tpm.flush(*(key.object_handle for key in self._keys))


class HmacSessionCase(Case):
    """StartAuthSession and FlushContext, with a fresh nonce each time."""

    name, bounds = "session_hmac", SMALL

    def once(self, rng: Random) -> None:
        session = self.tpm.timed_session()
        self.tpm.timed(FlushContext(session.handle))
        expect(len(session.nonce_tpm) == 32, "a nonce of another size")


class PolicySessionCase(Case):
    """StartAuthSession, PolicyPCR and FlushContext."""

    name, bounds = "session_policy_pcr", SMALL

    def once(self, rng: Random) -> None:
        selection = select(rng.randrange(16))
        session = self.tpm.timed_session(TPM_SE_POLICY)
        self.tpm.timed(PolicyPCR(session.handle, b"", selection))
        found = self.tpm.run(PolicyGetDigest(session.handle)).policy_digest
        self.tpm.timed(FlushContext(session.handle))
        expected = sha256(bytes(32), TPM_CC_PolicyPCR.to_bytes(4, "big"), b"\0\0\0\1", encode(selection[0]),
                          sha256(bytes(32)))
        expect(found == expected, "a wrong policyDigest")


class _NvCase(Case):
    """Has an NV Index of 32 octets with an authValue."""

    index = 0x01500010
    auth = b"bench"

    def __init__(self, tpm: Peer) -> None:
        super().__init__(tpm)
        attributes = TPMA_NV_AUTHREAD | TPMA_NV_AUTHWRITE | TPMA_NV_NO_DA
        public = TPMS_NV_PUBLIC(self.index, TPM_ALG_SHA256, attributes, b"", 32)
        tpm.run(NVDefineSpace(TPM_RH_OWNER, self.auth, public), OWNER_AUTH)
        self._authorization = Password(self.auth)
        self._data = bytes(range(32))
        tpm.run(self._write(), self._authorization)

    def close(self) -> None:
        self.tpm.run(NVUndefineSpace(TPM_RH_OWNER, self.index), OWNER_AUTH)

    def _write(self) -> NVWrite:
        return NVWrite(self.index, self.index, self._data, 0)


class NvReadCase(_NvCase):
    name, bounds = "nv_read_32B", SMALL

    def once(self, rng: Random) -> None:
        offset = rng.randrange(16)
        found = self.tpm.timed(NVRead(self.index, self.index, 16, offset), self._authorization).data
        expect(found == self._data[offset : offset + 16], "other data than were written")


class NvReadHmacCase(NvReadCase):
    """NV_Read authorised by an HMAC session, whose nonces roll and whose HMACs both sides compute."""

    name = "nv_read_hmac"

    def __init__(self, tpm: Peer) -> None:
        super().__init__(tpm)
        tpm.names[self.index] = tpm.run(NVReadPublic(self.index)).nv_name
        self._session = tpm.start_session()
        self._session.auth = self.auth

    def once(self, rng: Random) -> None:
        offset = rng.randrange(16)
        # The client raises ProtocolError for a response whose HMAC is wrong.
        found = self.tpm.timed(NVRead(self.index, self.index, 16, offset), self._session).data
        expect(found == self._data[offset : offset + 16], "other data than were written")

    def close(self) -> None:
        self.tpm.flush(self._session.handle)
        del self.tpm.names[self.index]
        super().close()


class NvWriteCase(_NvCase):
    """Writes fresh data each time: libtpms writes nothing to disk when they are what the Index holds."""

    name, bounds = "nv_write_32B", Bounds(None, 2.0)
    per_turn = 5

    def once(self, rng: Random) -> None:
        self._data = rng.randbytes(32)
        self.tpm.timed(self._write(), self._authorization)

    def check(self) -> None:
        found = self.tpm.run(NVRead(self.index, self.index, 32, 0), self._authorization).data
        expect(found == self._data, "other data than were written last")


CASES: tuple[type[Case], ...] = (
    GetRandomCase, PcrReadCase, PcrExtendCase, HashCase, HashKibCase, ReadPublicCase, HmacSessionCase,
    PolicySessionCase, NvReadCase, NvReadHmacCase, NvWriteCase,
)
