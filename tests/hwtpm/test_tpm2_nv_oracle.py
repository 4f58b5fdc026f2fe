"""NV commands with generated parameters: the answers are those of swtpm."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from hwtpm.client import Client, Password
from hwtpm.crypto.drbg import CtrDrbg
from hwtpm.errors import TpmError
from hwtpm.tpm2.requests.command import Command
from hwtpm.tpm2.requests.nv import (
    NVDefineSpace,
    NVExtend,
    NVGlobalWriteLock,
    NVIncrement,
    NVRead,
    NVReadLock,
    NVReadPublic,
    NVSetBits,
    NVUndefineSpace,
    NVWrite,
    NVWriteLock,
)
from hwtpm.tpm2.types import attributes
from hwtpm.tpm2.types.attributes import (
    TPM_NT_BITS,
    TPM_NT_COUNTER,
    TPM_NT_EXTEND,
    TPM_NT_ORDINARY,
    TPM_NT_PIN_FAIL,
    TPM_NT_PIN_PASS,
    TPMA_NV_AUTHREAD,
    TPMA_NV_AUTHWRITE,
    TPMA_NV_NO_DA,
    TPMA_NV_ORDERLY,
    TPMA_NV_OWNERREAD,
    TPMA_NV_OWNERWRITE,
    TPMA_NV_PLATFORMCREATE,
    TPMA_NV_POLICY_DELETE,
    TPMA_NV_POLICYREAD,
    TPMA_NV_POLICYWRITE,
    TPMA_NV_PPREAD,
    TPMA_NV_PPWRITE,
    TPMA_NV_READ_STCLEAR,
    TPMA_NV_READLOCKED,
    TPMA_NV_TPM_NT_SHIFT,
    TPMA_NV_WRITE_STCLEAR,
    TPMA_NV_WRITEALL,
    TPMA_NV_WRITEDEFINE,
    TPMA_NV_WRITELOCKED,
    TPMA_NV_WRITTEN,
)
from hwtpm.tpm2.types.constants import TPM_ALG_SHA1, TPM_ALG_SHA256, TPM_ALG_SHA384, TPM_ALG_SHA512
from hwtpm.tpm2.types.handles import TPM_RH_OWNER, TPM_RH_PLATFORM
from hwtpm.tpm2.types.nv import TPMS_NV_PUBLIC
from tests.support.swtpm import Swtpm
from tests.support.tpm2 import started

FIRST = 0x01500000
SIZES = {TPM_ALG_SHA1: 20, TPM_ALG_SHA256: 32, TPM_ALG_SHA384: 48, TPM_ALG_SHA512: 64}
KINDS = (TPM_NT_ORDINARY, TPM_NT_COUNTER, TPM_NT_BITS, TPM_NT_EXTEND, TPM_NT_PIN_FAIL, TPM_NT_PIN_PASS)
BITS = [value for name, value in vars(attributes).items()
        if name.startswith("TPMA_NV_") and "TPM_NT" not in name and isinstance(value, int)]
STATES = TPMA_NV_WRITTEN | TPMA_NV_WRITELOCKED | TPMA_NV_READLOCKED
USUAL = TPMA_NV_OWNERREAD | TPMA_NV_OWNERWRITE | TPMA_NV_AUTHREAD | TPMA_NV_PPWRITE


class Pair:
    """Our engine and swtpm, which get the same commands."""

    def __init__(self, swtpm: Swtpm) -> None:
        self.ours = started().client
        self.theirs = Client(swtpm.execute, CtrDrbg(b"nonces").generate)

    def run(self, request: Command[Any], *authorizations: Password) -> int:
        """Return the response code, which is the same for both, as is all that they return."""
        ours, theirs = (_outcome(c, request, authorizations) for c in (self.ours, self.theirs))
        assert ours == theirs, f"{request}: ours {ours}, swtpm {theirs}"
        return ours if isinstance(ours, int) else 0


def _outcome(client: Client, request: Command[Any], authorizations: tuple[Password, ...]) -> object:
    try:
        return client.run(request, *authorizations)
    except TpmError as error:
        return error.rc


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Swtpm() as swtpm:
        yield Pair(swtpm)


def _definition(random: Random, handle: int) -> NVDefineSpace:
    """Return a definition that is right in most ways."""
    auth = random.choice((TPM_RH_OWNER, TPM_RH_OWNER, TPM_RH_PLATFORM))
    kind = random.choice((*KINDS, 3, 15))
    bits = USUAL if random.random() < 0.8 else 0
    for _ in range(random.choice((0, 1, 1, 2, 3, 5))):
        bits ^= random.choice(BITS)
    if random.random() < 0.8:
        bits &= ~(STATES | TPMA_NV_POLICY_DELETE)
        if kind in (TPM_NT_PIN_FAIL, TPM_NT_PIN_PASS):
            bits = (bits | TPMA_NV_NO_DA) & ~TPMA_NV_AUTHWRITE
    if random.random() < 0.9:
        bits = bits & ~TPMA_NV_PLATFORMCREATE | (TPMA_NV_PLATFORMCREATE if auth == TPM_RH_PLATFORM else 0)
    alg = random.choice(list(SIZES))
    size = random.choice((0, 1, 8, 20, 32, 48, 64, 1024, 1025, 2048, 2049))
    if random.random() < 0.8 and kind != TPM_NT_ORDINARY:
        size = SIZES[alg] if kind == TPM_NT_EXTEND else 8
    if bits & TPMA_NV_ORDERLY and size > 64:
        size = 64  # How much RAM there is for hybrid indices is an implementation's choice (Part 1, 34.2.1).
    policy = b"" if random.random() < 0.8 else bytes(random.choice((20, 32, 64)))
    secret = random.choice((b"", b"a" * 20, b"b" * 33, b"c" * 64, b"d" + bytes(63)))
    public = TPMS_NV_PUBLIC(handle, alg, bits | kind << TPMA_NV_TPM_NT_SHIFT, policy, size)
    return NVDefineSpace(auth, secret, public)


def test_definitions_are_answered_as_by_swtpm(pair: Pair) -> None:
    random = Random(31)
    codes: dict[int, int] = {}
    for i in range(1500):
        definition = _definition(random, FIRST + random.choice((i, i, i, i, random.randrange(i + 1))))
        code = pair.run(definition, Password())
        codes[code] = codes.get(code, 0) + 1
        handle = definition.public_info.nv_index
        pair.run(NVReadPublic(handle))
        if random.random() < 0.8:
            pair.run(NVUndefineSpace(random.choice((TPM_RH_OWNER, TPM_RH_PLATFORM)), handle), Password())
            pair.run(NVUndefineSpace(TPM_RH_PLATFORM, handle), Password())
    assert codes[0] > 100
    assert len(codes) > 5


ACCESS = (TPMA_NV_OWNERREAD, TPMA_NV_OWNERWRITE, TPMA_NV_PPREAD, TPMA_NV_PPWRITE, TPMA_NV_AUTHREAD,
          TPMA_NV_AUTHWRITE, TPMA_NV_POLICYREAD, TPMA_NV_POLICYWRITE, TPMA_NV_WRITEDEFINE,
          TPMA_NV_WRITE_STCLEAR, TPMA_NV_READ_STCLEAR, TPMA_NV_WRITEALL, TPMA_NV_ORDERLY,
          attributes.TPMA_NV_GLOBALLOCK)


def _indices(random: Random, pair: Pair) -> list[TPMS_NV_PUBLIC]:
    found = []
    for i in range(40):
        kind = KINDS[i % len(KINDS)]
        if kind == TPM_NT_COUNTER and i >= len(KINDS):
            # A counter starts above all others that there are or were with us, with swtpm above those that
            # were; Part 1, 34.2.6.3 allows both.  So there is only one.
            kind = TPM_NT_BITS
        bits = TPMA_NV_NO_DA | kind << TPMA_NV_TPM_NT_SHIFT
        for bit in ACCESS:
            if random.random() < 0.5:
                bits |= bit
        size = 8
        if kind in (TPM_NT_ORDINARY, TPM_NT_COUNTER):
            bits |= TPMA_NV_OWNERWRITE | TPMA_NV_OWNERREAD
        if kind == TPM_NT_EXTEND:
            size = 32
        elif kind == TPM_NT_ORDINARY:
            size = random.choice((0, 1, 30))
        public = TPMS_NV_PUBLIC(FIRST + i, TPM_ALG_SHA256, bits, b"", size)
        if pair.run(NVDefineSpace(TPM_RH_OWNER, b"key", public), Password()) == 0:
            found.append(public)
            if kind == TPM_NT_ORDINARY:
                # What a first, partial write leaves out is all zero or all one (Part 1, 34.2.6.2): with us
                # zero, with swtpm one.  So the first write here is of everything.
                pair.run(NVWrite(TPM_RH_OWNER, public.nv_index, bytes(size), 0), Password())
    return found


def _access(random: Random, index: TPMS_NV_PUBLIC) -> tuple[Command[Any], Password]:
    handle = index.nv_index
    auth = random.choice((handle, handle, TPM_RH_OWNER, TPM_RH_PLATFORM, FIRST))
    password = Password(b"key" if auth in range(FIRST, FIRST + 100) else b"")
    if random.random() < 0.05:
        password = Password(b"wrong")
    size = random.choice((0, 1, 4, 8, index.data_size, index.data_size, 31))
    offset = random.choice((0, 0, 0, 1, 4, 8, 9, 31))
    data = random.randbytes(size)
    if index.attributes >> TPMA_NV_TPM_NT_SHIFT & 8 and random.random() < 0.8:
        data, offset = random.choice((0, 1, 2)).to_bytes(4, "big") + b"\0\0\0\2", 0
    request: Command[Any] = random.choice((
        NVWrite(auth, handle, data, offset), NVWrite(auth, handle, data, offset),
        NVRead(auth, handle, size, offset), NVRead(auth, handle, index.data_size, 0),
        NVIncrement(auth, handle), NVExtend(auth, handle, data),
        NVSetBits(auth, handle, random.getrandbits(64)),
        NVWriteLock(auth, handle) if random.random() < 0.2 else NVIncrement(auth, handle),
        NVReadLock(auth, handle) if random.random() < 0.2 else NVRead(auth, handle, 2000, 0),
    ))
    return request, password


def test_reads_and_writes_are_answered_as_by_swtpm(pair: Pair) -> None:
    random = Random(32)
    indices = _indices(random, pair)
    assert len(indices) > 15
    codes: dict[int, int] = {}
    for i in range(1500):
        index = random.choice(indices)
        request, password = _access(random, index)
        code = pair.run(request, password)
        codes[code] = codes.get(code, 0) + 1
        pair.run(NVReadPublic(index.nv_index))
        if i == 1000:
            pair.run(NVGlobalWriteLock(TPM_RH_OWNER), Password())
    assert codes[0] > 100
    assert len(codes) > 6
