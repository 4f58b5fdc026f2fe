"""Cases that move few octets and use no key pair: what costs here is the way to the TPM."""

from __future__ import annotations

from random import Random
from typing import Any

from hwtpm.client import Client, Password
from hwtpm.tpm2.requests.context import FlushContext
from hwtpm.tpm2.requests.nv import NVDefineSpace, NVRead, NVReadPublic, NVUndefineSpace, NVWrite
from hwtpm.tpm2.requests.object import ReadPublic
from hwtpm.tpm2.requests.pcr import PCRExtend, PCRRead
from hwtpm.tpm2.requests.policy import PolicyGetDigest, PolicyPCR
from hwtpm.tpm2.requests.random import GetRandom
from hwtpm.tpm2.requests.session import StartAuthSession
from hwtpm.tpm2.requests.symmetric import Hash
from hwtpm.tpm2.types.algorithms import TPMT_SYM_DEF
from hwtpm.tpm2.types.attributes import TPMA_NV_AUTHREAD, TPMA_NV_AUTHWRITE, TPMA_NV_NO_DA
from hwtpm.tpm2.types.constants import (
    TPM_ALG_NULL,
    TPM_ALG_SHA256,
    TPM_SE_HMAC,
    TPM_SE_POLICY,
    TPM_CC_PolicyPCR,
)
from hwtpm.tpm2.types.handles import HMAC_SESSION_FIRST, TPM_RH_NULL, TPM_RH_OWNER
from hwtpm.tpm2.types.nv import TPMS_NV_PUBLIC
from hwtpm.tpm2.types.structures import TPMT_HA
from hwtpm.wire import encode
from tests.bench.case import (
    NO_AUTH,
    SMALL,
    STORAGE,
    Bounds,
    Case,
    RandomOctetsCase,
    Step,
    create_primary,
    ecc_template,
    expect,
    name_of,
    select,
    sha256,
)
from tests.bench.peers import Peer

_PCR = 16  # the debug PCR, at zero after Startup
_SESSION = HMAC_SESSION_FIRST
_UNSALTED = (TPM_RH_NULL, TPM_RH_NULL)  # and not bound


class GetRandomCase(RandomOctetsCase):
    def steps(self, rng: Random) -> list[Step]:
        return [Step(GetRandom(rng.randrange(8, 33)))]


class PcrReadCase(Case):
    """Reads one PCR of the SHA-256 bank; those from 0 to 15 are zero after Startup."""

    name, bounds = "pcr_read", SMALL

    def steps(self, rng: Random) -> list[Step]:
        return [Step(PCRRead(select(rng.randrange(16))))]

    def answered(self, requests: list[Any], responses: list[Any]) -> None:
        expect(responses[0].pcr_selection_out == requests[0].pcr_selection_in, "another PCR")
        expect(responses[0].pcr_values == [bytes(32)], "a PCR that is not zero")


class PcrExtendCase(Case):
    name, bounds = "pcr_extend", SMALL

    def __init__(self, tpm: Peer) -> None:
        super().__init__(tpm)
        self._replayed = self._value()

    def steps(self, rng: Random) -> list[Step]:
        return [Step(PCRExtend(_PCR, [TPMT_HA(TPM_ALG_SHA256, rng.randbytes(32))]), NO_AUTH)]

    def answered(self, requests: list[Any], responses: list[Any]) -> None:
        self._replayed = sha256(self._replayed, requests[0].digests[0].digest)

    def check(self) -> None:
        expect(self._value() == self._replayed, "the PCR is not what the extends make of it")

    def _value(self) -> bytes:
        found: bytes = self.tpm.run(PCRRead(select(_PCR))).pcr_values[0]
        return found


class HashCase(Case):
    name, bounds = "hash_64B", SMALL
    size = 64

    def steps(self, rng: Random) -> list[Step]:
        return [Step(Hash(rng.randbytes(self.size), TPM_ALG_SHA256, TPM_RH_NULL))]

    def answered(self, requests: list[Any], responses: list[Any]) -> None:
        expect(responses[0].out_hash == sha256(requests[0].data), "a wrong digest")


class HashKibCase(HashCase):
    name = "hash_1KiB"
    size = 1024


class ReadPublicCase(Case):
    """Reads one of two keys."""

    name, bounds = "read_public", SMALL

    def __init__(self, tpm: Peer) -> None:
        super().__init__(tpm)
        made = [create_primary(tpm, ecc_template(STORAGE, x=bytes([i]))) for i in range(2)]
        self._names = {one.object_handle: one.name for one in made}

    def steps(self, rng: Random) -> list[Step]:
        return [Step(ReadPublic(rng.choice(list(self._names))))]

    def answered(self, requests: list[Any], responses: list[Any]) -> None:
        name = self._names[requests[0].object_handle]
        expect(responses[0].name == name == name_of(responses[0].out_public), "a wrong name")

    def close(self) -> None:
        self.tpm.flush(*self._names)


class HmacSessionCase(Case):
    """StartAuthSession and FlushContext, with a fresh nonce each time."""

    name, bounds = "session_hmac", SMALL
    kind = TPM_SE_HMAC

    def start(self, rng: Random) -> Step:
        nonce, cipher = rng.randbytes(32), TPMT_SYM_DEF(TPM_ALG_NULL)
        return Step(StartAuthSession(*_UNSALTED, nonce, b"", self.kind, cipher, TPM_ALG_SHA256))

    def steps(self, rng: Random) -> list[Step]:
        return [self.start(rng), Step(FlushContext(_SESSION))]

    def answered(self, requests: list[Any], responses: list[Any]) -> None:
        expect(len(responses[0].nonce_tpm) == 32, "a nonce of another size")


class PolicySessionCase(HmacSessionCase):
    """StartAuthSession, PolicyPCR and FlushContext."""

    name = "session_policy_pcr"
    kind = TPM_SE_POLICY

    def steps(self, rng: Random) -> list[Step]:
        return [
            self.start(rng), Step(PolicyPCR(_SESSION, b"", select(rng.randrange(16)))),
            Step(PolicyGetDigest(_SESSION), timed=False), Step(FlushContext(_SESSION)),
        ]

    def answered(self, requests: list[Any], responses: list[Any]) -> None:
        selected = b"\0\0\0\1" + encode(requests[1].pcrs[0])
        code = TPM_CC_PolicyPCR.to_bytes(4, "big")
        expected = sha256(bytes(32), code, selected, sha256(bytes(32)))
        expect(responses[2].policy_digest == expected, "a wrong policyDigest")


class _NvCase(Case):
    """Has an NV Index of 32 octets with an authValue."""

    index = 0x01500010
    auth = Password(b"bench")

    def __init__(self, tpm: Peer) -> None:
        super().__init__(tpm)
        attributes = TPMA_NV_AUTHREAD | TPMA_NV_AUTHWRITE | TPMA_NV_NO_DA
        public = TPMS_NV_PUBLIC(self.index, TPM_ALG_SHA256, attributes, b"", 32)
        tpm.run(NVDefineSpace(TPM_RH_OWNER, self.auth.auth, public), *NO_AUTH)
        self._data = bytes(range(32))
        tpm.run(NVWrite(self.index, self.index, self._data, 0), self.auth)

    def close(self) -> None:
        self.tpm.run(NVUndefineSpace(TPM_RH_OWNER, self.index), *NO_AUTH)


class NvReadCase(_NvCase):
    """Reads half of the Index, from a different octet on."""

    name, bounds = "nv_read_32B", SMALL

    def request(self, rng: Random) -> NVRead:
        return NVRead(self.index, self.index, 16, rng.randrange(16))

    def steps(self, rng: Random) -> list[Step]:
        return [Step(self.request(rng), (self.auth,))]

    def answered(self, requests: list[Any], responses: list[Any]) -> None:
        offset = requests[0].offset
        expect(responses[0].data == self._data[offset : offset + 16], "other data than were written")


class NvReadHmacCase(NvReadCase):
    """NV_Read authorised by an HMAC session, whose nonces roll and whose HMACs both sides compute.

    The client computes between the exchanges, since each HMAC covers the last response's nonce.
    """

    name = "nv_read_hmac"

    def __init__(self, tpm: Peer) -> None:
        super().__init__(tpm)
        self._client = Client(self._exchange, tpm.entropy)
        self._client.names[self.index] = tpm.run(NVReadPublic(self.index)).nv_name
        self._session = self._client.start_session()
        self._session.auth = self.auth.auth
        self._taken = 0

    def turn(self, rng: Random, count: int) -> list[int]:
        samples = []
        for _ in range(count):
            request = self.request(rng)
            # The client raises ProtocolError for a response whose HMAC is wrong.
            found = self._client.run(request, self._session)
            samples.append(self._taken)
            self.answered([request], [found])
        return samples

    def close(self) -> None:
        self.tpm.flush(self._session.handle)
        super().close()

    def _exchange(self, command: bytes) -> bytes:
        response, self._taken = self.tpm.timed(command)
        return response


class NvWriteCase(_NvCase):
    """Writes fresh data each time: libtpms writes nothing to disk when they are what the Index holds."""

    name, bounds = "nv_write_32B", Bounds(None, 2.0)
    per_turn = 5

    def steps(self, rng: Random) -> list[Step]:
        return [Step(NVWrite(self.index, self.index, rng.randbytes(32), 0), (self.auth,))]

    def answered(self, requests: list[Any], responses: list[Any]) -> None:
        self._data = requests[0].data

    def check(self) -> None:
        found = self.tpm.run(NVRead(self.index, self.index, 32, 0), self.auth).data
        expect(found == self._data, "other data than were written last")


CASES: tuple[type[Case], ...] = (
    GetRandomCase, PcrReadCase, PcrExtendCase, HashCase, HashKibCase, ReadPublicCase, HmacSessionCase,
    PolicySessionCase, NvReadCase, NvReadHmacCase, NvWriteCase,
)
