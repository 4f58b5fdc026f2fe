"""What the manager's evidence proves, from public keys alone: no chip, no store and no secret.

Each function returns what is proven, as lines for people among others, and raises NotProven, one line, for
evidence that does not hold.  What is *known* to the verifier is compared; what is not is shown as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from hmac import compare_digest
from typing import Final, NamedTuple

from hwtpm.crypto import ids
from hwtpm.crypto.errors import CryptoError
from hwtpm.crypto.rsa import RsaPublic
from hwtpm.errors import TpmError
from hwtpm.tpm2.types import parent as parent20
from hwtpm.tpm2.types.constants import TPM_ALG_SHA256
from hwtpm.tpm2.types.objects import TPMT_PUBLIC
from hwtpm.tpm2.types.structures import TPMS_ATTEST, TPMS_CREATION_INFO, TPMS_QUOTE_INFO
from hwtpm.tpm12.types import parent as parent12
from hwtpm.tpm12.types.constants import (
    TPM_ALG_RSA,
    TPM_ES_NONE,
    TPM_SS_RSASSAPKCS1v15_SHA1,
)
from hwtpm.tpm12.types.identity import TPM_IDENTITY_CONTENTS
from hwtpm.tpm12.types.key import TPM_KEY_PARMS, TPM_PUBKEY, TPM_RSA_KEY_PARMS
from hwtpm.tpm12.types.ordinals import TPM_ORD_MakeIdentity
from hwtpm.tpm12.types.pcr import TPM_PCR_INFO_SHORT
from hwtpm.tpm12.types.signed import TPM_QUOTE_INFO
from hwtpm.wire import decode, encode
from manager.cfglist import pcr_policy, platform_hash, selected, selection
from manager.quote import (
    RECOVERS,
    REGISTERS,
    SHOWS,
    Meaning,
    Subject,
    digest,
    digest_size,
    extern_data,
    group_extern,
    pcr_values,
    requested,
)
from manager.requests import (
    VTPM_QUOTE_FLAGS_GROUP_INFO,
    VTPM_QUOTE_FLAGS_GROUP_PUBKEY,
    VTPM_QUOTE_FLAGS_HASH_UUID,
    VTPM_QUOTE_FLAGS_VTPM_MEASUREMENTS,
    GetQuote,
    GetQuoteResponse,
    GroupNew,
    GroupNewResponse,
    GroupQuote,
    GroupRecover1Response,
    GroupRegister,
    GroupRegisterResponse,
)

_VERSION_1_1: Final = b"\1\1\0\0"
_AIK_PARMS: Final = TPM_KEY_PARMS(TPM_ALG_RSA, TPM_ES_NONE, TPM_SS_RSASSAPKCS1v15_SHA1,
                                  encode(TPM_RSA_KEY_PARMS(2048, 2, b"")))
_FLAGS: Final = (
    (VTPM_QUOTE_FLAGS_HASH_UUID, "the vTPM's UUID"),
    (VTPM_QUOTE_FLAGS_VTPM_MEASUREMENTS, "the hash of the vTPM's kernel"),
    (VTPM_QUOTE_FLAGS_GROUP_INFO, "the group's configuration list"),
    (VTPM_QUOTE_FLAGS_GROUP_PUBKEY, "the key of the group's SAA"),
)
_PCRS: Final = {20: "the key of the group's SAA", 21: "the group's configuration list",
                22: "the hash of the vTPM's kernel", 23: "the UUIDs of group and vTPM"}


class NotProven(Exception):
    """The evidence does not hold; one line says why."""


class Known(NamedTuple):
    """What the verifier knows already of the subject of a quote, as `Subject` has it; None if not."""

    group: bytes | None = None
    saa: bytes | None = None
    cfg_list: bytes | None = None
    vtpm: bytes | None = None
    kernel: bytes | None = None


class Proof(NamedTuple):
    """What a quote proves: the values of *pcrs*, the *hashes* of GET_QUOTE by flag, and lines for people."""

    pcrs: dict[int, bytes]
    hashes: dict[int, bytes]
    says: list[str]


def split_statement(family: str, rest: bytes) -> tuple[bytes, bytes]:
    """Return the TPMS_ATTEST at the beginning of *rest*, empty with a TPM 1.2, and what comes after it."""
    if family == "1.2":
        return b"", rest
    end = 2 + int.from_bytes(rest[:2], "big")
    if len(rest) < max(end, 2):
        raise NotProven("the response is cut short")
    return rest[2:end], rest[end:]


def verify_quote(family: str, aik: bytes, request: GetQuote, response: GetQuoteResponse,
                 known: Known, meaning: Meaning) -> Proof:
    """Return what *response* proves to whom asked *request* and knows the *aik* of the group, a modulus."""
    statement, rest = split_statement(family, response.rest)
    size = digest_size(family)
    flags = [(flag, name) for flag, name in _FLAGS if request.flags & flag]
    found = [rest[at * size : (at + 1) * size] for at in range(len(flags))]
    extern = extern_data(family, request.flags, request.extern_data, found, meaning)
    pcrs = _quoted(family, aik, request.quote_select, extern, response.signature, statement,
                   rest[len(flags) * size :])
    proof = Proof(pcrs, {flag: value for (flag, _), value in zip(flags, found, strict=True)},
                  [_signed_line(pcrs)])
    for (flag, name), value in zip(flags, found, strict=True):
        if (subject := _subject_for(flag, known, meaning)) is None:
            proof.says.append(f"the manager says that the hash of {name} is {value.hex()}")
        elif requested(family, flag, subject, meaning) == [value]:
            proof.says.append(f"{name} is the one that was given")
        else:
            raise NotProven(f"{name} is not the one that was given")
    if meaning.documented_pcrs:
        _check_pcrs(family, pcrs, known, proof.says, of_vtpm=True)
    return proof


def verify_group_quote(family: str, aik: bytes, request: GroupQuote, response: GetQuoteResponse,
                       known: Known, meaning: Meaning) -> Proof:
    """Return what the *response* to GROUP_QUOTE proves."""
    statement, values = split_statement(family, response.rest)
    extern = group_extern(family, meaning, SHOWS, request.nonce)
    pcrs = _quoted(family, aik, request.quote_select, extern, response.signature, statement, values)
    says = [_signed_line(pcrs)]
    if meaning.documented_pcrs:
        _check_pcrs(family, pcrs, known, says, of_vtpm=False)
    return Proof(pcrs, {}, says)


def verify_registration(family: str, aik: bytes, request: GroupRegister, response: GroupRegisterResponse,
                        platforms: Iterable[bytes], meaning: Meaning) -> bytes:
    """Return which of *platforms*, hashes of configurations, the group was registered in.

    The quote of a registration comes without the values of its PCRs, so these have to be known.
    """
    extern = group_extern(family, meaning, REGISTERS, request.dhkx_1, response.dhkx_2, response.recover_blob)
    return _platform(family, aik, request.quote_select, extern, response.reg_proof, response.rest, platforms)


def verify_recovery(family: str, aik: bytes, nonce: bytes, pcrs: bytes, response: GroupRecover1Response,
                    platforms: Iterable[bytes], meaning: Meaning) -> bytes:
    """Return in which of *platforms* the manager is that asks to recover a group; *aik* is the proxy AIK's.

    *nonce* and *pcrs* are those of GROUP_RECOVER1.
    """
    extern = group_extern(family, meaning, RECOVERS, nonce, response.dhkx_1)
    return _platform(family, aik, pcrs, extern, response.signature, response.rest, platforms)


def guest_pcrs(family: str, nonce: bytes, quoted: bytes, values: bytes, extern: bytes) -> dict[int, bytes]:
    """Return the values of a guest's PCRs that a deep quote vouches for, by number.

    *extern* is what GET_QUOTE signed for the guest's TPM of *family*; *quoted* is a TPM_PCR_INFO_SHORT or a
    TPMS_QUOTE_INFO, of one selection of the SHA-256 bank, and *values* are the PCRs in it.  Raises TpmError
    if they are malformed.
    """
    if family == "1.2":
        info = decode(TPM_PCR_INFO_SHORT, quoted)
        signed, bits = parent12.deep_quote_digest(nonce, info), selection(info.pcr_selection.pcr_select)
        expected = info.digest_at_release
        found = platform_hash("1.2", bits, values) if any(bits) else bytes(20)
    else:
        quote = decode(TPMS_QUOTE_INFO, quoted)
        if [s.hash for s in quote.pcr_select] != [TPM_ALG_SHA256]:
            raise NotProven("the guest's PCRs are not those of one bank")
        signed, bits = parent20.deep_quote_digest(nonce, quote), selection(quote.pcr_select[0].pcr_select)
        expected, found = quote.pcr_digest, digest("2.0", values)
    if not compare_digest(signed, extern):
        raise NotProven("the chip signed something else than this guest's PCRs and this nonce")
    numbers, size = selected(bits), digest_size(family)
    if not compare_digest(expected, found) or len(values) != len(numbers) * size:
        raise NotProven("the values of the guest's PCRs are not those that were quoted")
    return {number: values[at * size : (at + 1) * size] for at, number in enumerate(numbers)}


def verify_binding(family: str, request: GroupNew, response: GroupNewResponse) -> list[str]:
    """Return what the AIK's own signature about its creation proves."""
    aik = response.aik_pub_key
    if family == "1.2":
        _check(family, aik, encode(TPM_IDENTITY_CONTENTS(
            _VERSION_1_1, TPM_ORD_MakeIdentity, request.label_digest, TPM_PUBKEY(_AIK_PARMS, aik))),
            response.aik_binding)
    else:
        statement, rest = split_statement(family, response.rest)
        _check(family, aik, statement, response.aik_binding)
        _check_creation(aik, request.label_digest, statement, rest)
    return ["who made this key chose this label for it",
            "that the key is in a TPM is not proven by this: encrypt something for its endorsement key "
            "and have GROUP_ACTIVATE open it"]


def _check_creation(aik: bytes, label: bytes, statement: bytes, rest: bytes) -> None:
    attest = _attest(statement)
    if not isinstance(attest.attested, TPMS_CREATION_INFO) or attest.extra_data != label:
        raise NotProven("the statement is not about the creation of a key with this label")
    try:
        public = decode(TPMT_PUBLIC, rest[2:])
    except TpmError:
        raise NotProven("the key's public area is malformed") from None
    name = TPM_ALG_SHA256.to_bytes(2, "big") + digest("2.0", rest[2:])
    if public.unique != aik or attest.attested.object_name != name:
        raise NotProven("the statement is about another key")


def _subject_for(flag: int, known: Known, meaning: Meaning) -> Subject | None:
    """Return a subject with what the hash for *flag* is over, None if that is not known."""
    needed: dict[int, tuple[bytes | None, ...]] = {
        VTPM_QUOTE_FLAGS_HASH_UUID: (known.vtpm,),
        VTPM_QUOTE_FLAGS_VTPM_MEASUREMENTS: (known.kernel,),
        VTPM_QUOTE_FLAGS_GROUP_INFO: (known.cfg_list,) if meaning.documented_extern
        else (known.saa, known.cfg_list),
        VTPM_QUOTE_FLAGS_GROUP_PUBKEY: (known.saa,)}
    if None in needed[flag]:
        return None
    return Subject(known.group or b"", known.saa or b"", known.cfg_list or b"", known.vtpm,
                   known.kernel or b"")


def _check_pcrs(family: str, pcrs: dict[int, bytes], known: Known, says: list[str], *,
                of_vtpm: bool) -> None:
    """The PCRs 20 to 23 that were quoted say what is known."""
    needed: dict[int, tuple[bytes | None, ...]] = {
        20: (known.saa,), 21: (known.cfg_list,), 22: (known.kernel,) if of_vtpm else (),
        23: (known.group, known.vtpm) if of_vtpm else (known.group,)}
    subject = Subject(known.group or b"", known.saa or b"", known.cfg_list or b"",
                      (known.vtpm or b"") if of_vtpm else None, known.kernel or b"")
    expected = pcr_values(family, subject)
    for number in sorted(pcrs.keys() & needed.keys()):
        name = _PCRS[number] if of_vtpm or number != 23 else "the group's UUID"
        if number == 22 and not of_vtpm:
            continue
        if None in needed[number]:
            says.append(f"PCR {number} tells {name}, which was not given")
        elif pcrs[number] in expected[number]:
            says.append(f"PCR {number}: {name} is what was given"
                        + (", if nobody else resets this PCR, as any locality may" if number == 23 else ""))
        else:
            raise NotProven(f"PCR {number}: {name} is not what was given")


def _quoted(family: str, aik: bytes, pcrs: bytes, extern: bytes, signature: bytes, statement: bytes,
            values: bytes) -> dict[int, bytes]:
    """Return the values of the PCRs, which *signature* by *aik* is over, together with *extern*."""
    try:
        bits = selection(pcrs)
    except TpmError:
        raise NotProven("the selection is not one of 24 PCRs") from None
    numbers, size = selected(bits), digest_size(family)
    if len(values) != len(numbers) * size:
        raise NotProven(f"values of {len(values) // size} PCRs for a selection of {len(numbers)}")
    if family == "1.2":
        composite = platform_hash(family, bits, values)
        _check(family, aik, encode(TPM_QUOTE_INFO(_VERSION_1_1, b"QUOT", composite, extern)), signature)
    else:
        found = _pcr_digest(aik, bits, extern, signature, statement)
        if not compare_digest(found, digest(family, values)):
            raise NotProven("the values of the PCRs are not those that were quoted")
    return {number: values[at * size : (at + 1) * size] for at, number in enumerate(numbers)}


def _platform(family: str, aik: bytes, pcrs: bytes, extern: bytes, signature: bytes, rest: bytes,
              platforms: Iterable[bytes]) -> bytes:
    """Return which of *platforms* is quoted."""
    try:
        bits = selection(pcrs)
    except TpmError:
        raise NotProven("the selection is not one of 24 PCRs") from None
    if family == "2.0":
        statement, _ = split_statement(family, rest)
        found = pcr_policy(bits, _pcr_digest(aik, bits, extern, signature, statement))
        if found not in platforms:
            raise NotProven("the machine is in none of the configurations that were given")
        return found
    for platform in platforms:
        try:
            _check(family, aik, encode(TPM_QUOTE_INFO(_VERSION_1_1, b"QUOT", platform, extern)), signature)
        except NotProven:
            continue
        return platform
    raise NotProven("the quote is not of this key and exchange, or the machine is in none of the "
                    "configurations that were given")


def _pcr_digest(aik: bytes, bits: bytes, extern: bytes, signature: bytes, statement: bytes) -> bytes:
    """Return the digest of PCRs in a quote of a TPM 2.0 over the selection *bits* and *extern*."""
    _check("2.0", aik, statement, signature)
    attest = _attest(statement)
    attested = attest.attested
    if not isinstance(attested, TPMS_QUOTE_INFO):
        raise NotProven("what is signed is no quote")
    if not compare_digest(attest.extra_data, extern):
        raise NotProven("the quote is for other data: another nonce, other flags or hashes, or another "
                        "meaning")
    if [(s.hash, number) for s in attested.pcr_select for number in selected(s.pcr_select)] != [
            (TPM_ALG_SHA256, number) for number in selected(bits)]:
        raise NotProven("the quote is over other PCRs")
    return attested.pcr_digest


def _attest(statement: bytes) -> TPMS_ATTEST:
    try:
        return decode(TPMS_ATTEST, statement)
    except TpmError:
        raise NotProven("the statement is no TPMS_ATTEST") from None


def _check(family: str, modulus: bytes, octets: bytes, signature: bytes) -> None:
    """*signature* is that of the key with *modulus* over *octets*."""
    alg = ids.SHA1 if family == "1.2" else ids.SHA256
    try:
        RsaPublic(modulus).verify_pkcs1(alg, digest(family, octets), signature)
    except CryptoError:
        raise NotProven("the signature is not of this key over this data: another key, nonce, selection or "
                        "meaning, or the evidence was changed") from None


def _signed_line(pcrs: dict[int, bytes]) -> str:
    numbers = ", ".join(map(str, pcrs)) or "none"
    return f"the group's identity key signed the values of PCRs {numbers} for this nonce"
