"""Quotes: whose signature it is, what it is over, and how lists are compared with it."""

from __future__ import annotations

import os
import struct

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from cusetpm.measure import BadLog, DoesNotFit, ima, imaverify, quote
from cusetpm.measure.pcr import Pcr, Values
from cusetpm.measure.tpm import connect
from hwtpm.client import Password
from hwtpm.crypto import hashes, ids
from hwtpm.tpm2.requests.attestation import GetTime, Quote
from hwtpm.tpm2.requests.context import FlushContext
from hwtpm.tpm2.types.constants import (
    TPM_ALG_ECDSA,
    TPM_ALG_ECSCHNORR,
    TPM_ALG_HMAC,
    TPM_ALG_NULL,
    TPM_ALG_RSAPSS,
    TPM_ALG_RSASSA,
    TPM_ALG_SHA256,
    TPM_ALG_SHA384,
    TPM_ALG_SM2,
)
from hwtpm.tpm2.types.handles import TPM_RH_ENDORSEMENT
from hwtpm.tpm2.types.objects import TPM2B_PUBLIC, TPMT_PUBLIC
from hwtpm.tpm2.types.structures import TPMS_PCR_SELECTION
from hwtpm.wire import encode, writer_of
from tests.support import tpm2_keys as keys
from tests.support.tpm2 import Machine, started

KEYS = {
    "rsassa": keys.rsa(keys.SIGN, TPM_ALG_RSASSA, TPM_ALG_SHA256),
    "rsapss": keys.rsa(keys.SIGN, TPM_ALG_RSAPSS, TPM_ALG_SHA384),
    "ecdsa": keys.elliptic(keys.SIGN, TPM_ALG_ECDSA, TPM_ALG_SHA256),
    "ecdsa-p384": keys.elliptic(keys.SIGN, TPM_ALG_ECDSA, TPM_ALG_SHA384, curve=ids.NIST_P384),
    "schnorr": keys.elliptic(keys.SIGN, TPM_ALG_ECSCHNORR, TPM_ALG_SHA256),
    "sm2": keys.elliptic(keys.SIGN, TPM_ALG_SM2, TPM_ALG_SHA256, curve=ids.SM2_P256),
}
NONCE = b"a nonce"
SHA256_10 = [TPMS_PCR_SELECTION(ids.SHA256, b"\0\x04\0")]


class Quoted:
    """A TPM with a measured list, and quotes of it as files."""

    def __init__(self, *names: str) -> None:
        self.machine: Machine = started()
        self.tpm = connect(self.machine.execute, os.urandom)
        self.entries = [ima.make("ima-ng", "sha256", hashes.digest(ids.SHA256, n.encode()), n.encode())
                        for n in names]
        for entry in self.entries:
            covered = entry.hashed("little")
            assert covered is not None
            self.tpm.extend(10, {alg: hashes.digest(alg, covered)
                                 for alg in (ids.SHA1, ids.SHA256, ids.SHA384)})

    def files(self, areas: keys.Areas = KEYS["ecdsa"],
              selection: list[TPMS_PCR_SELECTION] = SHA256_10) -> tuple[bytes, bytes, bytes]:
        client = self.machine.client
        key = keys.load(client, areas)
        made = client.run(Quote(key, NONCE, keys.scheme(), selection), Password())
        client.run(FlushContext(key))
        return made.quoted, encode(made.signature), public_of(areas)

    def values(self, *indices: int) -> Values:
        return self.tpm.read(indices)


def public_of(areas: keys.Areas) -> bytes:
    return writer_of(TPM2B_PUBLIC)(areas[0])


def library_key(public: TPMT_PUBLIC) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
    unique = public.unique
    if isinstance(unique, bytes):
        return rsa.RSAPublicNumbers(65537, int.from_bytes(unique, "big")).public_key()
    curve = ec.SECP256R1() if len(unique.x) == 32 else ec.SECP384R1()
    x, y = (int.from_bytes(c, "big") for c in (unique.x, unique.y))
    return ec.EllipticCurvePublicNumbers(x, y, curve).public_key()


@pytest.fixture(scope="module")
def quoted() -> Quoted:
    return Quoted("/a", "/b", "/c")


@pytest.mark.parametrize("name", KEYS)
def test_a_quote_by_every_kind_of_key_is_accepted_and_no_other(quoted: Quoted, name: str) -> None:
    message, signature, public = quoted.files(KEYS[name])
    found = quote.read(message, signature, public, NONCE)
    assert found.selected == ((ids.SHA256, 10),)
    assert imaverify.verify(ima.MeasurementList(quoted.entries), found).used == 3
    changed = message[:-1] + bytes([message[-1] ^ 1])
    with pytest.raises(DoesNotFit, match="signature is not of this message by this key"):
        quote.read(changed, signature, public)
    other = public_of(keys.rsa(keys.SIGN, TPM_ALG_RSASSA, TPM_ALG_SHA256, bits=1024))
    with pytest.raises(DoesNotFit, match="signature is not of this message by this key"):
        quote.read(message, signature, other)


@pytest.mark.parametrize("name", ["rsassa", "rsapss", "ecdsa", "ecdsa-p384"])
@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_the_key_may_be_in_the_formats_of_openssl(quoted: Quoted, name: str, encoding: Encoding) -> None:
    message, signature, _ = quoted.files(KEYS[name])
    key = library_key(KEYS[name][0]).public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
    assert quote.read(message, signature, key).digest
    other = ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(
        encoding, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(DoesNotFit):
        quote.read(message, signature, other)


def test_a_quote_for_another_nonce_is_refused_and_its_nonce_named(quoted: Quoted) -> None:
    with pytest.raises(DoesNotFit, match=f"for the nonce {NONCE.hex()}"):
        quote.read(*quoted.files(), b"another")


def test_the_first_entry_after_a_quote_is_named_or_allowed() -> None:
    quoted = Quoted("/a", "/b", "/c")
    found = quote.read(*quoted.files())
    longer = ima.MeasurementList([*quoted.entries, *Quoted("/d").entries])
    with pytest.raises(DoesNotFit, match=r"^entry 4 \(/d\) is the first that is not in sha256:10 of the q"):
        imaverify.verify(longer, found)
    assert imaverify.verify(longer, found, prefix=True).used == 3
    with pytest.raises(DoesNotFit, match="sha256:10 after its 2 entries are not what the quote over"):
        imaverify.verify(ima.MeasurementList(longer.entries[:2]), found)


def test_several_banks_and_pcrs_in_one_quote() -> None:
    quoted = Quoted("/a", "/b")
    entries = ima.MeasurementList(quoted.entries)
    everything = [TPMS_PCR_SELECTION(alg, b"\xff\xff\xff") for alg in (ids.SHA256, ids.SHA1)]
    found = quote.read(*quoted.files(selection=everything))
    # PCRs that no list speaks of are as after a reset, those of dynamic launch too.
    assert imaverify.verify(entries, found).compared == [(ids.SHA256, 10), (ids.SHA1, 10)]
    quoted.tpm.extend(7, {ids.SHA256: bytes(31) + b"\1"})
    found = quote.read(*quoted.files(selection=everything))
    with pytest.raises(DoesNotFit, match="are not what the quote over sha1:0-23 sha256:0-23 has"):
        imaverify.verify(entries, found)
    with_values = found.with_values(quoted.values(*range(24)))
    assert imaverify.verify(entries, with_values).compared == [(ids.SHA1, 10), (ids.SHA256, 10)]
    longer = ima.MeasurementList([*quoted.entries, *Quoted("/c").entries])
    with pytest.raises(DoesNotFit, match=r"^entry 3 \(/c\) is the first that is not in sha1:10 of the quote"):
        imaverify.verify(longer, with_values)


def test_values_that_were_not_quoted_are_refused(quoted: Quoted) -> None:
    found = quote.read(*quoted.files())
    with pytest.raises(DoesNotFit, match="values given for sha256:10 are not those that were quoted"):
        found.with_values({(ids.SHA256, 10): bytes(32)})
    with pytest.raises(BadLog, match="the quote is also over sha256:10, whose values are not given"):
        found.with_values({(ids.SHA1, 10): bytes(20)})
    extra = {**quoted.values(10), (ids.SHA256, 3): b"unrelated"}
    assert set(found.with_values(extra).values) == {(ids.SHA256, 10)}


@pytest.mark.parametrize(("files", "why"), [
    ((b"", b"", b""), "no TPMS_ATTEST"),
    ((b"x" * 100, b"", b""), "no TPMS_ATTEST"),
])
def test_other_octets_are_named_for_what_they_are_not(files: tuple[bytes, bytes, bytes], why: str) -> None:
    with pytest.raises(BadLog, match=why):
        quote.read(*files)


def test_other_signatures_keys_and_attestations_are_named(quoted: Quoted) -> None:
    message, signature, public = quoted.files()
    with pytest.raises(BadLog, match="the signature is no TPMT_SIGNATURE"):
        quote.read(message, b"\x30\x45", public)
    for other in struct.pack(">H", TPM_ALG_NULL), struct.pack(">HH32x", TPM_ALG_HMAC, TPM_ALG_SHA256):
        with pytest.raises(BadLog, match="the signature is of no asymmetric key"):
            quote.read(message, other, public)
    for key in (b"", b"-----BEGIN PUBLIC KEY-----\n", b"garbage", public[:-1]):
        with pytest.raises(BadLog, match="neither a TPM2B_PUBLIC nor a public key in PEM or DER"):
            quote.read(message, signature, key)
    client = quoted.machine.client
    time = client.run(GetTime(TPM_RH_ENDORSEMENT, keys.load(client, KEYS["ecdsa"]), b"", keys.scheme()),
                      Password(), Password())
    with pytest.raises(BadLog, match="attests something else than PCRs"):
        quote.read(time.time_info, encode(time.signature), public)


@given(st.binary(max_size=300), st.binary(max_size=100), st.binary(max_size=100))
def test_garbage_is_a_clear_error(message: bytes, signature: bytes, public: bytes) -> None:
    with pytest.raises(BadLog):
        quote.read(message, signature, public)


# Files of values

def serialized(values: dict[Pcr, bytes]) -> bytes:
    """Return *values* as tpm2_quote --pcr writes them."""
    banks: dict[int, int] = {}
    for alg, index in values:
        banks[alg] = banks.get(alg, 0) | 1 << index
    selections = b"".join(struct.pack("<HB4sx", alg, 3, bits.to_bytes(4, "little"))
                          for alg, bits in banks.items())
    digests = list(values.values())
    lists = [digests[i : i + 8] for i in range(0, len(digests), 8)]
    return (struct.pack("<I", len(banks)) + selections.ljust(128, b"\0") + struct.pack("<I", len(lists))
            + b"".join(struct.pack("<I", len(found)) + b"".join(
                struct.pack("<H64s", len(d), d) for d in found).ljust(8 * 66, b"\0") for found in lists))


VALUES = {(alg, index): os.urandom(hashes.size(alg)) for alg in (ids.SHA1, ids.SHA256) for index in range(9)}


def test_both_formats_of_values_are_read() -> None:
    assert quote.pcr_values(serialized(VALUES), ()) == VALUES
    assert quote.pcr_values(b"".join(VALUES.values()), tuple(VALUES)) == VALUES


@given(st.binary(max_size=200) | st.tuples(st.integers(0, len(serialized(VALUES)) - 1), st.binary(
    min_size=1, max_size=4)).map(lambda change: _overwritten(*change)))
def test_a_damaged_file_of_values_is_values_or_a_clear_error(data: bytes) -> None:
    try:
        found = quote.pcr_values(data, ())
    except BadLog:
        return
    assert all(len(value) == hashes.size(alg) for (alg, _), value in found.items())


def _overwritten(at: int, by: bytes) -> bytes:
    data = bytearray(serialized(VALUES))
    data[at : at + len(by)] = by
    return bytes(data)
