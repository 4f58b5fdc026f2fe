"""Quotes: what TPM2_Quote signed, as the files of tpm2_quote have it."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from hmac import compare_digest
from typing import Final, NamedTuple

from cusetpm.measure import BadLog, DoesNotFit
from cusetpm.measure.pcr import Pcr, Values, bank_name, initial, show_all
from hwtpm.crypto import hashes
from hwtpm.crypto.errors import CryptoError, UnsupportedAlgorithm
from hwtpm.errors import TpmError
from hwtpm.tpm2.types.algorithms import (
    TPMS_ECC_POINT,
    TPMS_SIGNATURE_ECC,
    TPMS_SIGNATURE_RSA,
    TPMT_ECC_SCHEME,
    TPMT_KDF_SCHEME,
    TPMT_RSA_SCHEME,
    TPMT_SIGNATURE,
    TPMT_SYM_DEF_OBJECT,
)
from hwtpm.tpm2.types.attributes import TPMA_OBJECT_SIGN
from hwtpm.tpm2.types.constants import TPM_ALG_ECC, TPM_ALG_NULL, TPM_ALG_RSA
from hwtpm.tpm2.types.handles import TPM_RH_NULL
from hwtpm.tpm2.types.objects import TPM2B_PUBLIC, TPMS_ECC_PARMS, TPMS_RSA_PARMS, TPMT_PUBLIC
from hwtpm.tpm2.types.structures import TPMS_ATTEST, TPMS_QUOTE_INFO
from hwtpm.wire import decode, reader_of


class Quote(NamedTuple):
    """A quote: one digest over the values of all selected PCRs (Part 2, 10.11.4).

    A `Target` of comparisons.  *values* are those of the selected PCRs, where they are known.
    """

    selected: tuple[Pcr, ...]
    alg: int  # of the digest
    digest: bytes
    extra: bytes  # qualifyingData
    values: Values

    @property
    def what(self) -> str:
        return "the quote" if self.values else f"the quote over {show_all(self.selected)}"

    def known(self) -> Values:
        return self.values

    def groups(self, indices: Iterable[int]) -> list[list[Pcr]]:
        wanted = set(indices)
        pcrs = [pcr for pcr in self.selected if pcr[1] in wanted]
        if self.values:
            return [[pcr for pcr in pcrs if pcr[0] == alg] for alg in sorted({alg for alg, _ in pcrs})]
        return [pcrs] if pcrs else []

    def wrong(self, values: Values) -> list[Pcr]:
        ours = [pcr for pcr in self.selected if pcr in values]
        if self.values:
            return [pcr for pcr in ours if self.values[pcr] != values[pcr]]
        # What no list speaks of is as it was after the reset.
        everything = b"".join(values.get(pcr) or initial(pcr) for pcr in self.selected)
        return [] if hashes.digest(self.alg, everything) == self.digest else ours

    def with_values(self, values: Values) -> Quote:
        """Return the same with the values of its PCRs; raises DoesNotFit when these are not what was quoted.

        PCRs of *values* that are not selected are left out.
        """
        if missing := [pcr for pcr in self.selected if pcr not in values]:
            raise BadLog(f"the quote is also over {show_all(missing)}, whose values are not given")
        everything = b"".join(values[pcr] for pcr in self.selected)
        if hashes.digest(self.alg, everything) != self.digest:
            raise DoesNotFit(f"the values given for {show_all(self.selected)} are not those that were quoted")
        return self._replace(values={pcr: values[pcr] for pcr in self.selected})


def read(message: bytes, signature: bytes, public: bytes, nonce: bytes | None = None) -> Quote:
    """Return the quote that *message* is (TPMS_ATTEST), if *signature* (TPMT_SIGNATURE) by *public* fits.

    *public* is a TPM2B_PUBLIC, or a SubjectPublicKeyInfo in PEM or DER.  Raises DoesNotFit for a signature
    that is not of this message and key, or a *nonce* other than the quote's; BadLog for other octets.
    """
    try:
        attest = decode(TPMS_ATTEST, message)
    except TpmError:
        raise BadLog("the quote's message is no TPMS_ATTEST") from None
    attested = attest.attested
    if not isinstance(attested, TPMS_QUOTE_INFO):
        raise BadLog("the message attests something else than PCRs")
    try:
        signed = decode(TPMT_SIGNATURE, signature, plus=True)
    except TpmError:
        raise BadLog("the signature is no TPMT_SIGNATURE (tpm2_quote writes one with --format tss)") from None
    details = signed.signature
    if not isinstance(details, TPMS_SIGNATURE_RSA | TPMS_SIGNATURE_ECC):
        raise BadLog("the signature is of no asymmetric key")
    _check(signed, hashes.digest(details.hash, message), public)
    if nonce is not None and not compare_digest(nonce, attest.extra_data):
        raise DoesNotFit(f"the quote is for the nonce {attest.extra_data.hex() or '(none)'}")
    selected = tuple((s.hash, index) for s in attested.pcr_select for index in range(8 * len(s.pcr_select))
                     if s.pcr_select[index // 8] >> index % 8 & 1)
    return Quote(selected, details.hash, attested.pcr_digest, attest.extra_data, {})


def _check(signed: TPMT_SIGNATURE, digest: bytes, public: bytes) -> None:
    from hwtpm.tpm2 import schemes
    from hwtpm.tpm2.state.objects import Object

    try:
        key = Object(_public(public), None, TPM_RH_NULL, qualified_name=b"")
        schemes.verify(key, digest, signed)
    except (TpmError, CryptoError):
        raise DoesNotFit("the quote's signature is not of this message by this key") from None


def _public(data: bytes) -> TPMT_PUBLIC:
    """Return the public area that *data* is or stands for."""
    try:
        found, end = reader_of(TPM2B_PUBLIC)(data, 0)
        if end == len(data) and isinstance(found, TPMT_PUBLIC) and found.type in (TPM_ALG_RSA, TPM_ALG_ECC):
            return found
    except TpmError:
        pass
    from hwtpm.crypto import pem

    try:
        numbers = pem.public_numbers(data)
    except UnsupportedAlgorithm as error:
        raise BadLog(str(error)) from None
    except CryptoError:
        raise BadLog("the key is neither a TPM2B_PUBLIC nor a public key in PEM or DER") from None
    none = TPMT_SYM_DEF_OBJECT(TPM_ALG_NULL, None, None)
    if len(numbers) == 2:
        n, e = numbers
        return TPMT_PUBLIC(TPM_ALG_RSA, TPM_ALG_NULL, TPMA_OBJECT_SIGN, b"",
                           TPMS_RSA_PARMS(none, TPMT_RSA_SCHEME(TPM_ALG_NULL, None), n.bit_length(), e),
                           n.to_bytes((n.bit_length() + 7) // 8, "big"))
    curve, x, y = numbers
    return TPMT_PUBLIC(TPM_ALG_ECC, TPM_ALG_NULL, TPMA_OBJECT_SIGN, b"",
                       TPMS_ECC_PARMS(none, TPMT_ECC_SCHEME(TPM_ALG_NULL, None), curve,
                                      TPMT_KDF_SCHEME(TPM_ALG_NULL, None)), TPMS_ECC_POINT(x, y))


# The files of values that tpm2_quote and tpm2_pcrread write.  "serialized" is the structures of tpm2-tss as
# they are in memory, little-endian: TPML_PCR_SELECTION, UINT32 count, and so many TPML_DIGEST.

_U32: Final = struct.Struct("<I").unpack_from
_SELECTION: Final = struct.Struct("<HB4sx").unpack_from
_MAX_SELECTIONS: Final = 16
_SELECTIONS_SIZE: Final = 4 + _MAX_SELECTIONS * 8
_DIGEST_SIZE: Final = 2 + 64
_DIGESTS_SIZE: Final = 4 + 8 * _DIGEST_SIZE


def pcr_values(data: bytes, selected: tuple[Pcr, ...]) -> dict[Pcr, bytes]:
    """Return the PCRs in a file of tpm2_quote --pcr or tpm2_pcrread --output, in either format.

    The format "values" does not say which PCRs it has: they are *selected*, in order.  Raises BadLog.
    """
    if selected and len(data) == sum(hashes.size(alg) for alg, _ in selected):
        found, at = {}, 0
        for pcr in selected:
            found[pcr] = data[at : at + hashes.size(pcr[0])]
            at += len(found[pcr])
        return found
    try:
        return _serialized(data)
    except (struct.error, IndexError):
        raise BadLog("not a file of PCR values") from None


def _serialized(data: bytes) -> dict[Pcr, bytes]:
    (count,) = _U32(data)
    (lists,) = _U32(data, _SELECTIONS_SIZE)
    if count > _MAX_SELECTIONS or len(data) != _SELECTIONS_SIZE + 4 + lists * _DIGESTS_SIZE:
        raise BadLog("not a file of PCR values")
    pcrs: list[Pcr] = []
    for number in range(count):
        alg, size, octets = _SELECTION(data, 4 + 8 * number)
        pcrs += [(alg, index) for index in range(8 * min(size, 4)) if octets[index // 8] >> index % 8 & 1]
    digests: list[bytes] = []
    for number in range(lists):
        at = _SELECTIONS_SIZE + 4 + number * _DIGESTS_SIZE
        for _ in range(min(_U32(data, at)[0], 8)):
            size = int.from_bytes(data[at + 4 : at + 6], "little")
            digests.append(data[at + 6 : at + 6 + min(size, 64)])
            at += _DIGEST_SIZE
    if len(digests) != len(pcrs):
        raise BadLog(f"values of {len(digests)} PCRs for a selection of {len(pcrs)}")
    for (alg, _), digest in zip(pcrs, digests, strict=True):
        if alg not in hashes.ALGORITHMS or len(digest) != hashes.size(alg):
            raise BadLog(f"a PCR of {len(digest)} octets in bank {bank_name(alg)}")
    return dict(zip(pcrs, digests, strict=True))
