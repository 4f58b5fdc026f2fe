"""The types of Part 2: exact response codes, round trips, and structures that another TPM wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwtpm.errors import TpmError
from hwtpm.tpm2 import profile
from hwtpm.tpm2.types import algorithms as alg
from hwtpm.tpm2.types import attributes, constants, context, creation, interface, nv, objects
from hwtpm.tpm2.types import structures as s
from hwtpm.tpm2.types.constants import (
    TPM_ALG_AES,
    TPM_ALG_CAMELLIA,
    TPM_ALG_CFB,
    TPM_ALG_CMAC,
    TPM_ALG_ECC,
    TPM_ALG_ECDAA,
    TPM_ALG_ECDH,
    TPM_ALG_ECDSA,
    TPM_ALG_HMAC,
    TPM_ALG_KDF1_SP800_56A,
    TPM_ALG_KDF1_SP800_108,
    TPM_ALG_KEYEDHASH,
    TPM_ALG_MLKEM,
    TPM_ALG_NULL,
    TPM_ALG_OAEP,
    TPM_ALG_RSA,
    TPM_ALG_RSAES,
    TPM_ALG_RSAPSS,
    TPM_ALG_RSASSA,
    TPM_ALG_SHA1,
    TPM_ALG_SHA256,
    TPM_ALG_SHA384,
    TPM_ALG_SHA512,
    TPM_ALG_SM4,
    TPM_ALG_SYMCIPHER,
    TPM_ALG_TDES,
    TPM_ALG_XOR,
    TPM_ECC_BN_P256,
    TPM_ECC_NIST_P192,
    TPM_ECC_NIST_P521,
    TPM_ECC_NONE,
    TPM_RC_ASYMMETRIC,
    TPM_RC_BAD_TAG,
    TPM_RC_CURVE,
    TPM_RC_HASH,
    TPM_RC_INSUFFICIENT,
    TPM_RC_KDF,
    TPM_RC_MODE,
    TPM_RC_RESERVED_BITS,
    TPM_RC_SCHEME,
    TPM_RC_SELECTOR,
    TPM_RC_SIZE,
    TPM_RC_SYMMETRIC,
    TPM_RC_TAG,
    TPM_RC_TYPE,
    TPM_RC_VALUE,
    rc_name,
)
from hwtpm.tpm2.types.handles import TPM_RH_NULL, TPM_RH_OWNER, TPM_RS_PW
from hwtpm.wire import Int, Wire, decode, encode, reader_of, writer_of

VECTORS = Path(__file__).parent.parent / "vectors"
SWTPM: dict[str, dict[str, str]] = json.loads((VECTORS / "tpm2_structures_swtpm.json").read_text())

HASHES = st.sampled_from(sorted(profile.HASHES))
U8, U16, U32, U64 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64))


def octets(limit: int) -> st.SearchStrategy[bytes]:
    return st.binary(max_size=limit)


def code_of(tp: Any, raw: bytes, *, plus: bool = False) -> int:
    """The response code of decoding *raw* as *tp*; zero where it decodes."""
    try:
        _, off = reader_of(tp, plus)(raw, 0)
    except TpmError as error:
        return error.rc
    assert off == len(raw)
    return 0


def octets_of(tp: Any, value: int) -> bytes:
    spec = next(a for a in get_args(tp) if isinstance(a, Int))
    return writer_of(Annotated[int, spec])(value)


# Interface types: (type, allowed values, null value or None, code, refused values).
_T, _P = (0x80000000, 0x8000000F), (0x81000000, 0x817FFFFF, 0x81FFFFFF)
_HMAC, _POLICY = (0x02000000, 0x0200003F), (0x03000000, 0x0300003F)
_NV = (0x01000000, 0x01FFFFFF)
_EXTERNAL, _PERMANENT_NV = (0x11000000, 0x11FFFFFF), (0x12000000, 0x12FFFFFF)
_O, _NULL, _LOCKOUT, _E, _PH, _PHNV = 0x40000001, 0x40000007, 0x4000000A, 0x4000000B, 0x4000000C, 0x4000000D
_ACTS = (0x40000110, 0x4000011F)
_OUTSIDE = (0x18, 0x02000040, 0x03000040, 0x40000000, 0x40000140, 0x40010000, 0x80000010, 0x82000000,
            0xFFFFFFFF)

INTERFACE: list[tuple[str, tuple[int, ...], int | None, int, tuple[int, ...]]] = [
    ("TPMI_YES_NO", (0, 1), None, TPM_RC_VALUE, (2, 255)),
    ("TPM_SU", (0, 1), None, TPM_RC_VALUE, (2, 0x8000)),
    ("TPM_SE", (0, 1, 3), None, TPM_RC_VALUE, (2, 4)),
    ("TPM_EO", tuple(range(12)), None, TPM_RC_VALUE, (12, 0xFFFF)),
    ("TPM_CLOCK_ADJUST", tuple(range(-3, 4)), None, TPM_RC_VALUE, (-4, 4)),
    ("TPM_CAP", (*range(13), 0x100), None, TPM_RC_VALUE, (13, 0x101, 0x80000000)),
    ("TPMI_DH_OBJECT", _T + _P, _NULL, TPM_RC_VALUE, (*_OUTSIDE, _O)),
    ("TPMI_DH_PARENT", (*_T, *_P, _O, _NULL, _E, _PH), None, TPM_RC_VALUE, (*_OUTSIDE, _LOCKOUT)),
    ("TPMI_DH_PERSISTENT", _P, None, TPM_RC_VALUE, _OUTSIDE + _T),
    ("TPMI_DH_ENTITY", (*_T, *_P, *_NV, 0, 23, _O, _E, _PH, _LOCKOUT), _NULL, TPM_RC_VALUE,
     (*_OUTSIDE, 0x40000010)),
    ("TPMI_DH_PCR", (0, 23), _NULL, TPM_RC_VALUE, _OUTSIDE),
    ("TPMI_SH_AUTH_SESSION", _HMAC + _POLICY, TPM_RS_PW, TPM_RC_VALUE, (*_OUTSIDE, _NULL)),
    ("TPMI_SH_HMAC", _HMAC, None, TPM_RC_VALUE, _OUTSIDE + _POLICY),
    ("TPMI_SH_POLICY", _POLICY, None, TPM_RC_VALUE, _OUTSIDE + _HMAC),
    ("TPMI_DH_CONTEXT", _HMAC + _POLICY + _T, None, TPM_RC_VALUE, _OUTSIDE + _P),
    ("TPMI_DH_SAVED", (*_HMAC, *_POLICY, 0x80000000, 0x80000002), None, TPM_RC_VALUE,
     (*_OUTSIDE, 0x80000003)),
    ("TPMI_RH_HIERARCHY", (_O, _NULL, _E, _PH), None, TPM_RC_VALUE, (*_OUTSIDE, _LOCKOUT)),
    ("TPMI_RH_ENABLES", (_O, _E, _PH, _PHNV), _NULL, TPM_RC_VALUE, (*_OUTSIDE, _LOCKOUT)),
    ("TPMI_RH_HIERARCHY_AUTH", (_O, _E, _PH, _LOCKOUT), _NULL, TPM_RC_VALUE, (*_OUTSIDE, _PHNV)),
    ("TPMI_RH_HIERARCHY_POLICY", (_O, _E, _PH, _LOCKOUT, *_ACTS), None, TPM_RC_VALUE, (*_OUTSIDE, _NULL)),
    ("TPMI_RH_BASE_HIERARCHY", (_O, _E, _PH), None, TPM_RC_VALUE, (*_OUTSIDE, _NULL)),
    ("TPMI_RH_PLATFORM", (_PH,), None, TPM_RC_VALUE, (*_OUTSIDE, _O)),
    ("TPMI_RH_OWNER", (_O,), _NULL, TPM_RC_VALUE, (*_OUTSIDE, _PH)),
    ("TPMI_RH_ENDORSEMENT", (_E,), _NULL, TPM_RC_VALUE, (*_OUTSIDE, _PH)),
    ("TPMI_RH_PROVISION", (_O, _PH), None, TPM_RC_VALUE, (*_OUTSIDE, _E)),
    ("TPMI_RH_CLEAR", (_LOCKOUT, _PH), None, TPM_RC_VALUE, (*_OUTSIDE, _O)),
    ("TPMI_RH_NV_AUTH", (_O, _PH, *_NV), None, TPM_RC_VALUE, (*_OUTSIDE, _E)),
    ("TPMI_RH_LOCKOUT", (_LOCKOUT,), None, TPM_RC_VALUE, (*_OUTSIDE, _PH)),
    ("TPMI_RH_NV_INDEX", _NV + _EXTERNAL + _PERMANENT_NV, None, TPM_RC_VALUE, _OUTSIDE),
    ("TPMI_RH_NV_DEFINED_INDEX", _NV + _EXTERNAL, None, TPM_RC_VALUE, _OUTSIDE + _PERMANENT_NV),
    ("TPMI_RH_NV_LEGACY_INDEX", _NV, None, TPM_RC_VALUE, _OUTSIDE + _EXTERNAL),
    ("TPMI_RH_NV_EXP_INDEX", _EXTERNAL, None, TPM_RC_VALUE, _OUTSIDE + _NV),
    ("TPMI_RH_AC", (0x90000000, 0x9000FFFF), None, TPM_RC_VALUE, (*_OUTSIDE, 0x90010000)),
    ("TPMI_RH_ACT", _ACTS, None, TPM_RC_VALUE, _OUTSIDE),
    ("TPMI_ALG_HASH", (TPM_ALG_SHA1, TPM_ALG_SHA256, TPM_ALG_SHA384, TPM_ALG_SHA512, 0x27, 0x28, 0x29),
     TPM_ALG_NULL, TPM_RC_HASH, (0, TPM_ALG_SM4, TPM_ALG_RSA)),
    ("TPMI_ALG_ASYM", (TPM_ALG_RSA, TPM_ALG_ECC), TPM_ALG_NULL, TPM_RC_ASYMMETRIC, (0, TPM_ALG_AES)),
    ("TPMI_ALG_SYM", (TPM_ALG_TDES, TPM_ALG_AES, TPM_ALG_CAMELLIA, TPM_ALG_XOR), TPM_ALG_NULL,
     TPM_RC_SYMMETRIC, (0, TPM_ALG_SM4)),
    ("TPMI_ALG_SYM_OBJECT", (TPM_ALG_TDES, TPM_ALG_AES, TPM_ALG_CAMELLIA), TPM_ALG_NULL, TPM_RC_SYMMETRIC,
     (TPM_ALG_XOR, TPM_ALG_SM4)),
    ("TPMI_ALG_SYM_MODE", (TPM_ALG_CMAC, *range(0x40, 0x45)), TPM_ALG_NULL, TPM_RC_MODE, (0x3E, 0x45)),
    ("TPMI_ALG_CIPHER_MODE", tuple(range(0x40, 0x45)), TPM_ALG_NULL, TPM_RC_MODE, (TPM_ALG_CMAC, 0x45)),
    ("TPMI_ALG_KDF", (TPM_ALG_KDF1_SP800_56A, TPM_ALG_KDF1_SP800_108), TPM_ALG_NULL, TPM_RC_KDF,
     (0, TPM_ALG_SHA256)),
    ("TPMI_ALG_SIG_SCHEME", (TPM_ALG_RSASSA, TPM_ALG_RSAPSS, TPM_ALG_ECDSA, TPM_ALG_ECDAA, TPM_ALG_HMAC),
     TPM_ALG_NULL, TPM_RC_SCHEME, (TPM_ALG_OAEP, TPM_ALG_ECDH, TPM_ALG_CMAC)),
    ("TPMI_ECC_KEY_EXCHANGE", (TPM_ALG_ECDH,), TPM_ALG_NULL, TPM_RC_SCHEME, (TPM_ALG_ECDSA,)),
    ("TPMI_ALG_MAC_SCHEME", (TPM_ALG_SHA256, TPM_ALG_CMAC), TPM_ALG_NULL, TPM_RC_SYMMETRIC,
     (TPM_ALG_AES, TPM_ALG_HMAC)),
    ("TPMI_ST_COMMAND_TAG", (0x8001, 0x8002), None, TPM_RC_BAD_TAG, (0x00C1, 0x8000, 0x8003)),
    ("TPMI_ALG_KEYEDHASH_SCHEME", (TPM_ALG_HMAC, TPM_ALG_XOR), TPM_ALG_NULL, TPM_RC_VALUE, (TPM_ALG_RSASSA,)),
    ("TPMI_ALG_RSA_SCHEME", (TPM_ALG_RSASSA, TPM_ALG_RSAES, TPM_ALG_RSAPSS, TPM_ALG_OAEP), TPM_ALG_NULL,
     TPM_RC_VALUE, (TPM_ALG_ECDSA,)),
    ("TPMI_ALG_RSA_DECRYPT", (TPM_ALG_RSAES, TPM_ALG_OAEP), TPM_ALG_NULL, TPM_RC_VALUE, (TPM_ALG_RSASSA,)),
    ("TPMI_ALG_ECC_SCHEME", (TPM_ALG_ECDSA, TPM_ALG_ECDH), TPM_ALG_NULL, TPM_RC_SCHEME, (TPM_ALG_RSASSA,)),
    ("TPMI_ECC_CURVE", (*range(TPM_ECC_NIST_P192, TPM_ECC_NIST_P521 + 1), TPM_ECC_BN_P256, 0x11, 0x20),
     TPM_ECC_NONE, TPM_RC_CURVE, (6, 0x12, 0x30)),
    ("TPMI_RSA_KEY_BITS", (1024, 2048, 3072, 4096), None, TPM_RC_VALUE, (0, 512, 2047)),
    ("TPMI_AES_KEY_BITS", (128, 192, 256), None, TPM_RC_VALUE, (0, 127, 512)),
    ("TPMI_ALG_PUBLIC", (TPM_ALG_RSA, TPM_ALG_ECC, TPM_ALG_KEYEDHASH, TPM_ALG_SYMCIPHER), None, TPM_RC_TYPE,
     (TPM_ALG_NULL, TPM_ALG_MLKEM, TPM_ALG_AES)),
]


@pytest.mark.parametrize(("name", "allowed", "null", "rc", "refused"), INTERFACE,
                         ids=[i[0] for i in INTERFACE])
def test_an_interface_type_accepts_its_table_and_answers_its_code(
        name: str, allowed: tuple[int, ...], null: int | None, rc: int, refused: tuple[int, ...]) -> None:
    tp = next(getattr(m, name) for m in (interface, alg, objects) if hasattr(m, name))
    for value in allowed:
        assert code_of(tp, octets_of(tp, value)) == 0, hex(value)
    for value in refused:
        assert code_of(tp, octets_of(tp, value), plus=True) == rc, hex(value)
    if null is not None:
        assert code_of(tp, octets_of(tp, null)) == rc
        assert code_of(tp, octets_of(tp, null), plus=True) == 0


def test_every_interface_type_has_a_row() -> None:
    declared = {n for n in vars(interface) if n.startswith("TPMI_")}
    assert declared <= {row[0] for row in INTERFACE}


def test_ranges_of_handles_end_where_the_profile_says() -> None:
    assert code_of(interface.TPMI_DH_PCR, (profile.IMPLEMENTATION_PCR - 1).to_bytes(4, "big")) == 0
    assert code_of(interface.TPMI_DH_PCR, profile.IMPLEMENTATION_PCR.to_bytes(4, "big")) == TPM_RC_VALUE
    last = 0x80000000 + profile.MAX_LOADED_OBJECTS - 1
    assert code_of(interface.TPMI_DH_OBJECT, last.to_bytes(4, "big")) == 0
    assert code_of(interface.TPMI_DH_OBJECT, (last + 1).to_bytes(4, "big")) == TPM_RC_VALUE


ATTRIBUTES = [n for n in vars(attributes) if n.startswith("TPMA_") and get_args(vars(attributes)[n])]


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_each_bit_of_an_attribute_structure_has_a_name_or_is_reserved(name: str) -> None:
    tp = getattr(attributes, name)
    spec = next(a for a in get_args(tp) if isinstance(a, Int))
    width = {"B": 8, "I": 32, "Q": 64}[spec.code]
    prefixes: tuple[str, ...] = (name + "_",)
    if name == "TPMA_NV_EXP":
        prefixes = ("TPMA_NV_", "TPMA_EXTERNAL_NV_")
    named = 0
    for n, v in vars(attributes).items():
        if n.startswith(prefixes) and isinstance(v, int) and not n.endswith("_SHIFT"):
            named |= v
    assert named & spec.reserved == 0
    assert named | spec.reserved == (1 << width) - 1
    for bit in range(width):
        wanted = TPM_RC_RESERVED_BITS if spec.reserved >> bit & 1 else 0
        assert code_of(tp, octets_of(tp, 1 << bit)) == wanted, bit


def test_constants_have_the_values_that_other_modules_rely_on() -> None:
    assert constants.TPM_RC_INITIALIZE == 0x100
    assert constants.TPM_RC_FAILURE == 0x101
    assert constants.TPM_RC_VALUE == 0x084
    assert constants.TPM_RC_LOCKOUT == 0x921
    assert constants.TPM_CC_MAC == constants.TPM_CC_HMAC == 0x155
    assert constants.TPM_PT_MANUFACTURER == 0x105
    assert constants.TPM_PT_PERMANENT == 0x200
    assert profile.DIGEST_SIZE.keys() == profile.HASHES
    assert set(profile.PCR_BANKS) <= profile.HASHES
    assert profile.SPEC_VERSION == constants.TPM_SPEC_VERSION
    assert profile.SPEC_FAMILY == constants.TPM_SPEC_FAMILY


def test_command_codes_are_the_numbers_that_another_tpm_lists() -> None:
    listed = json.loads((VECTORS / "tpma_cc_swtpm.json").read_text())
    ours = {v for n, v in vars(constants).items() if n.startswith("TPM_CC_")}
    assert {int(code, 16) for code in listed} <= ours


@pytest.mark.parametrize(("rc", "text"), [
    (0x000, "TPM_RC_SUCCESS"),
    (0x01E, "TPM_RC_BAD_TAG"),
    (0x100, "TPM_RC_INITIALIZE"),
    (0x084, "TPM_RC_VALUE"),
    (0x1C4, "TPM_RC_VALUE (parameter 1)"),
    (0xFD5, "TPM_RC_SIZE (parameter 15)"),
    (0x18B, "TPM_RC_HANDLE (handle 1)"),
    (0x98E, "TPM_RC_AUTH_FAIL (session 1)"),
    (0x921, "TPM_RC_LOCKOUT"),
    (0x0BF, "TPM_RC 0x0bf"),
    (0x12345678, "TPM_RC 0x12345678"),
])
def test_a_response_code_has_a_name(rc: int, text: str) -> None:
    assert rc_name(rc) == text


# Round trips.

POINTS = st.builds(alg.TPMS_ECC_POINT, octets(66), octets(66))
SCHEME_HASH = st.builds(alg.TPMS_SCHEME_HASH, HASHES)
SYM_OBJECTS = st.one_of(
    st.just(alg.TPMT_SYM_DEF_OBJECT(TPM_ALG_NULL)),
    st.builds(alg.TPMT_SYM_DEF_OBJECT, st.just(TPM_ALG_AES), st.sampled_from([128, 192, 256]),
              st.sampled_from([TPM_ALG_CFB, TPM_ALG_NULL])))
RSA_SCHEMES = st.one_of(
    st.just(alg.TPMT_RSA_SCHEME(TPM_ALG_NULL)), st.just(alg.TPMT_RSA_SCHEME(TPM_ALG_RSAES)),
    st.builds(alg.TPMT_RSA_SCHEME, st.sampled_from([TPM_ALG_RSASSA, TPM_ALG_RSAPSS, TPM_ALG_OAEP]),
              SCHEME_HASH))
ECC_SCHEMES = st.one_of(
    st.just(alg.TPMT_ECC_SCHEME(TPM_ALG_NULL)),
    st.builds(alg.TPMT_ECC_SCHEME, st.sampled_from([TPM_ALG_ECDSA, TPM_ALG_ECDH]), SCHEME_HASH))
KDFS = st.one_of(
    st.just(alg.TPMT_KDF_SCHEME(TPM_ALG_NULL)),
    st.builds(alg.TPMT_KDF_SCHEME, st.sampled_from(sorted(profile.KDFS)), SCHEME_HASH))
KEYEDHASH_SCHEMES = st.one_of(
    st.just(alg.TPMT_KEYEDHASH_SCHEME(TPM_ALG_NULL)),
    st.builds(alg.TPMT_KEYEDHASH_SCHEME, st.just(TPM_ALG_HMAC), SCHEME_HASH),
    st.builds(alg.TPMT_KEYEDHASH_SCHEME, st.just(TPM_ALG_XOR),
              st.builds(alg.TPMS_SCHEME_XOR, HASHES,
                        st.sampled_from([TPM_ALG_KDF1_SP800_108, TPM_ALG_NULL]))))
OBJECT_ATTRIBUTES = U32.map(lambda v: v & ~0xFFF0F009)


def _publics(kind: int, parameters: Any, unique: Any) -> st.SearchStrategy[objects.TPMT_PUBLIC]:
    return st.builds(objects.TPMT_PUBLIC, st.just(kind), HASHES, OBJECT_ATTRIBUTES, octets(64), parameters,
                     unique)


PUBLICS = st.one_of(
    _publics(TPM_ALG_RSA, st.builds(objects.TPMS_RSA_PARMS, SYM_OBJECTS, RSA_SCHEMES,
                                    st.sampled_from(sorted(profile.RSA_KEY_BITS)), U32), octets(512)),
    _publics(TPM_ALG_ECC, st.builds(objects.TPMS_ECC_PARMS, SYM_OBJECTS, ECC_SCHEMES,
                                    st.sampled_from(profile.ECC_CURVES), KDFS), POINTS),
    _publics(TPM_ALG_KEYEDHASH, st.builds(objects.TPMS_KEYEDHASH_PARMS, KEYEDHASH_SCHEMES), octets(64)),
    _publics(TPM_ALG_SYMCIPHER, st.builds(alg.TPMS_SYMCIPHER_PARMS, SYM_OBJECTS.filter(lambda v: v.mode)),
             octets(64)))
SENSITIVES = st.sampled_from(
    [(TPM_ALG_RSA, 256), (TPM_ALG_ECC, 66), (TPM_ALG_KEYEDHASH, 128), (TPM_ALG_SYMCIPHER, 32)],
).flatmap(lambda k: st.builds(objects.TPMT_SENSITIVE, st.just(k[0]), octets(64), octets(64), octets(k[1])))
PCRS = st.lists(st.builds(s.TPMS_PCR_SELECTION, HASHES, st.binary(min_size=3, max_size=3)), max_size=4)
CLOCKS = st.builds(s.TPMS_CLOCK_INFO, U64, U32, U32, st.integers(0, 1))
NAMES = octets(66)
ATTESTED: dict[int, st.SearchStrategy[Any]] = {
    constants.TPM_ST_ATTEST_CERTIFY: st.builds(s.TPMS_CERTIFY_INFO, NAMES, NAMES),
    constants.TPM_ST_ATTEST_CREATION: st.builds(s.TPMS_CREATION_INFO, NAMES, octets(64)),
    constants.TPM_ST_ATTEST_QUOTE: st.builds(s.TPMS_QUOTE_INFO, PCRS, octets(64)),
    constants.TPM_ST_ATTEST_COMMAND_AUDIT: st.builds(
        s.TPMS_COMMAND_AUDIT_INFO, U64, U16, octets(64), octets(64)),
    constants.TPM_ST_ATTEST_SESSION_AUDIT: st.builds(
        s.TPMS_SESSION_AUDIT_INFO, st.integers(0, 1), octets(64)),
    constants.TPM_ST_ATTEST_TIME: st.builds(
        s.TPMS_TIME_ATTEST_INFO, st.builds(s.TPMS_TIME_INFO, U64, CLOCKS), U64),
    constants.TPM_ST_ATTEST_NV: st.builds(s.TPMS_NV_CERTIFY_INFO, NAMES, U16, octets(1024)),
    constants.TPM_ST_ATTEST_NV_DIGEST: st.builds(s.TPMS_NV_DIGEST_CERTIFY_INFO, NAMES, octets(64)),
}
ATTESTS = st.sampled_from(sorted(ATTESTED)).flatmap(lambda t: st.builds(
    s.TPMS_ATTEST, st.just(constants.TPM_GENERATED_VALUE), st.just(t), NAMES, octets(66), CLOCKS, U64,
    ATTESTED[t]))
NV_PUBLICS = st.builds(nv.TPMS_NV_PUBLIC, st.integers(*_NV), HASHES, U32.map(lambda v: v & ~0x01F00300),
                       octets(64), st.integers(0, profile.MAX_NV_INDEX_SIZE))
EXTERNAL_NV_PUBLICS = st.builds(
    nv.TPMS_NV_PUBLIC_EXP_ATTR, st.integers(*_EXTERNAL), HASHES, st.sampled_from([0, 7 << 32, 0x20002]),
    octets(64), st.integers(0, profile.MAX_NV_INDEX_SIZE))
DIGESTS = HASHES.flatmap(lambda h: st.builds(
    s.TPMT_HA, st.just(h), st.binary(min_size=profile.DIGEST_SIZE[h], max_size=profile.DIGEST_SIZE[h])))
SIGNATURES = st.one_of(
    st.builds(alg.TPMT_SIGNATURE, st.sampled_from([TPM_ALG_RSASSA, TPM_ALG_RSAPSS]),
              st.builds(alg.TPMS_SIGNATURE_RSA, HASHES, octets(512))),
    st.builds(alg.TPMT_SIGNATURE, st.just(TPM_ALG_ECDSA),
              st.builds(alg.TPMS_SIGNATURE_ECC, HASHES, octets(66), octets(66))),
    st.builds(alg.TPMT_SIGNATURE, st.just(TPM_ALG_HMAC), DIGESTS))
STRUCTURES: st.SearchStrategy[Wire] = st.one_of(
    PUBLICS, SENSITIVES, ATTESTS, NV_PUBLICS, DIGESTS, SIGNATURES, CLOCKS,
    st.builds(nv.TPMT_NV_PUBLIC_2, st.just(0x01), NV_PUBLICS),
    st.builds(nv.TPMT_NV_PUBLIC_2, st.just(0x11), EXTERNAL_NV_PUBLICS),
    st.builds(context.TPMS_CONTEXT, U64, st.sampled_from([0x80000000, 0x02000003, 0x03000000]),
              st.sampled_from([TPM_RH_OWNER, TPM_RH_NULL]), octets(3668)),
    st.builds(creation.TPMS_CREATION_DATA, PCRS, octets(64), U8, U16, NAMES, NAMES, octets(66)),
    st.builds(s.TPMT_TK_CREATION, st.just(0x8021), st.just(TPM_RH_OWNER), octets(64)),
    st.builds(s.TPMT_TK_VERIFIED, st.just(0x8022), st.just(TPM_RH_NULL), st.none(), octets(64)),
    st.builds(s.TPMT_TK_VERIFIED, st.just(0x8027), st.just(TPM_RH_NULL), HASHES, octets(64)),
    st.builds(alg.TPMS_SENSITIVE_CREATE, octets(64), octets(128)),
    st.builds(alg.TPMS_ALGORITHM_DETAIL_ECC, U16.filter(bool), U16, KDFS, ECC_SCHEMES, *[octets(66)] * 7),
    st.builds(s.TPMS_CAPABILITY_DATA, st.just(constants.TPM_CAP_HANDLES), st.lists(U32, max_size=254)),
    st.builds(s.TPMS_AUTH_COMMAND, st.just(TPM_RS_PW), octets(64), st.sampled_from([0, 1, 0x61]), octets(64)),
)


@given(STRUCTURES)
def test_a_structure_decodes_from_what_it_encodes_to(value: Wire) -> None:
    assert decode(type(value), encode(value)) == value


@given(STRUCTURES, st.data())
def test_a_truncated_structure_is_insufficient(value: Wire, data: st.DataObject) -> None:
    raw = encode(value)
    with pytest.raises(TpmError) as caught:
        decode(type(value), raw[:data.draw(st.integers(0, len(raw) - 1))])
    assert caught.value.rc == TPM_RC_INSUFFICIENT


@given(PUBLICS, st.data())
def test_a_damaged_public_area_is_refused_or_reads_back_alike(
        value: objects.TPMT_PUBLIC, data: st.DataObject) -> None:
    raw = bytearray(encode(value))
    raw[data.draw(st.integers(0, min(len(raw), 40) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        again = decode(objects.TPMT_PUBLIC, bytes(raw))
    except TpmError:
        return
    assert encode(again) == raw


@pytest.mark.parametrize(("tp", "limit", "rc"), [
    (s.TPML_CC, 254, TPM_RC_SIZE),
    (s.TPML_HANDLE, 254, TPM_RC_SIZE),
    (s.TPML_ALG, 64, TPM_RC_SIZE),
    (s.TPML_ECC_CURVE, 508, TPM_RC_SIZE),
])
def test_a_list_of_integers_has_a_limit(tp: Any, limit: int, rc: int) -> None:
    full = writer_of(tp)([1] * limit)
    assert reader_of(tp)(full, 0) == ([1] * limit, len(full))
    assert code_of(tp, writer_of(tp)([1] * (limit + 1))) == rc


@pytest.mark.parametrize(("count", "rc"), [
    (0, TPM_RC_SIZE), (1, TPM_RC_SIZE), (2, 0), (8, 0), (9, TPM_RC_SIZE)])
def test_a_list_of_digests_has_two_to_eight(count: int, rc: int) -> None:
    raw = writer_of(s.TPML_DIGEST)([b""] * count)
    assert code_of(s.TPML_DIGEST, raw) == rc
    assert code_of(s.TPML_DIGEST_RESPONSE, raw) == (TPM_RC_SIZE if count > 8 else 0)


@pytest.mark.parametrize(("cls", "raw", "plus", "rc"), [
    (s.TPMS_PCR_SELECTION, "000b 02 0000", False, TPM_RC_VALUE),
    (s.TPMS_PCR_SELECTION, "000b 04 00000000", False, TPM_RC_VALUE),
    (s.TPMS_PCR_SELECTION, "0010 03 000000", False, TPM_RC_HASH),
    (s.TPMT_HA, "0010", False, TPM_RC_HASH),
    (s.TPMT_TK_CREATION, "8022 40000007 0000", False, TPM_RC_TAG),
    (s.TPMT_TK_CREATION, "8021 4000000a 0000", False, TPM_RC_VALUE),
    (s.TPMT_TK_VERIFIED, "8021 40000007 0000", False, TPM_RC_TAG),
    (s.TPMT_TK_AUTH, "8024 40000007 0000", False, TPM_RC_TAG),
    (s.TPMT_TK_HASHCHECK, "8025 40000007 0000", False, TPM_RC_TAG),
    (s.TPMS_ATTEST, "00544347", False, TPM_RC_VALUE),
    (s.TPMS_AUTH_COMMAND, "40000009 0000 08 0000", False, TPM_RC_RESERVED_BITS),
    (s.TPMS_AUTH_COMMAND, "40000007 0000 00 0000", False, TPM_RC_VALUE),
    (s.TPMS_CAPABILITY_DATA, "000000ff", False, TPM_RC_SELECTOR),
    (s.TPMS_SET_CAPABILITY_DATA, "82000000", False, TPM_RC_VALUE),
    (alg.TPMT_SYM_DEF, "0010", False, TPM_RC_SYMMETRIC),
    (alg.TPMT_SYM_DEF, "0006 0081 0043", False, TPM_RC_VALUE),
    (alg.TPMT_SYM_DEF, "0006 0080 0003", False, TPM_RC_MODE),
    (alg.TPMT_SYM_DEF, "000a 0010", False, TPM_RC_HASH),
    (alg.TPMT_SYM_DEF_OBJECT, "000a 000b", True, TPM_RC_SYMMETRIC),
    (alg.TPMT_SIG_SCHEME, "0014 0010", True, TPM_RC_HASH),
    (alg.TPMT_RSA_DECRYPT, "0014 000b", True, TPM_RC_VALUE),
    (alg.TPMT_ECC_SCHEME, "0014 000b", True, TPM_RC_SCHEME),
    (alg.TPMT_KDF_SCHEME, "0014 000b", True, TPM_RC_KDF),
    (alg.TPMT_SIGNATURE, "0010", False, TPM_RC_SCHEME),
    (alg.TPMT_SIGNATURE, "0014 0010 0000", True, TPM_RC_HASH),
    (objects.TPMT_PUBLIC, "0010", False, TPM_RC_TYPE),
    (objects.TPMT_PUBLIC, "0001 0010", False, TPM_RC_HASH),
    (objects.TPMT_PUBLIC, "0001 000b 00001001", False, TPM_RC_RESERVED_BITS),
    (objects.TPMT_PUBLIC, "0001 000b 00000000 0041", False, TPM_RC_SIZE),
    (objects.TPMT_PUBLIC, "0001 000b 00000000 0000 0010 0010 0401 00000000", False, TPM_RC_VALUE),
    (objects.TPMT_PUBLIC, "0001 000b 00000000 0000 0010 0010 0800 00000000 0201", False, TPM_RC_SIZE),
    (objects.TPMT_PUBLIC, "0023 000b 00000000 0000 0010 0010 0000 0010", False, TPM_RC_CURVE),
    (objects.TPMT_PUBLIC, "0023 000b 00000000 0000 0010 0010 0003 0016", False, TPM_RC_KDF),
    (objects.TPMT_PUBLIC, "0025 000b 00000000 0000 0010", False, TPM_RC_SYMMETRIC),
    (objects.TPMT_SENSITIVE, "0001 0000 0000 0101", False, TPM_RC_SIZE),
    (nv.TPMS_NV_PUBLIC, "11000000", False, TPM_RC_VALUE),
    (nv.TPMS_NV_PUBLIC, "01000000 000b 00000100", False, TPM_RC_RESERVED_BITS),
    (nv.TPMS_NV_PUBLIC, "01000000 000b 00000000 0000 0801", False, TPM_RC_SIZE),
    (nv.TPMT_NV_PUBLIC_2, "02", False, TPM_RC_SELECTOR),
    (context.TPMS_CONTEXT, "0000000000000001 80000003", False, TPM_RC_VALUE),
])
def test_the_code_of_a_wrong_structure(cls: Any, raw: str, plus: bool, rc: int) -> None:
    with pytest.raises(TpmError) as caught:
        decode(cls, bytes.fromhex(raw), plus=plus)
    assert caught.value.rc == rc


def test_plus_reaches_the_name_algorithm_through_the_box() -> None:
    public = objects.TPMT_PUBLIC(TPM_ALG_KEYEDHASH, TPM_ALG_NULL, 0, b"", objects.TPMS_KEYEDHASH_PARMS(
        alg.TPMT_KEYEDHASH_SCHEME(TPM_ALG_NULL)), b"")
    raw = writer_of(objects.TPM2B_PUBLIC)(public)
    assert reader_of(objects.TPM2B_PUBLIC, True)(raw, 0) == (public, len(raw))
    assert code_of(objects.TPM2B_PUBLIC, raw) == TPM_RC_HASH


def test_an_empty_box_is_no_sensitive_area_but_no_public_area_either() -> None:
    assert reader_of(objects.TPM2B_SENSITIVE)(b"\0\0", 0) == (None, 2)
    assert code_of(objects.TPM2B_PUBLIC, b"\0\0") == TPM_RC_SIZE
    assert code_of(alg.TPM2B_SENSITIVE_CREATE, b"\0\0") == TPM_RC_SIZE
    assert code_of(alg.TPM2B_ECC_POINT, b"\0\0") == TPM_RC_SIZE


def test_the_null_digest_has_no_octets() -> None:
    value = s.TPMS_TAGGED_POLICY(TPM_RH_OWNER, s.TPMT_HA(TPM_ALG_NULL, b""))
    assert encode(value) == bytes.fromhex("40000001 0010")
    assert decode(s.TPMS_TAGGED_POLICY, encode(value)) == value


def test_secrets_stay_out_of_repr() -> None:
    shown = repr(objects.TPMT_SENSITIVE(TPM_ALG_RSA, b"auth", b"seed", b"prime"))
    shown += repr(alg.TPMS_SENSITIVE_CREATE(b"auth", b"data"))
    shown += repr(s.TPMS_AUTH_COMMAND(TPM_RS_PW, b"", 0, b"auth"))
    for secret in (b"auth", b"seed", b"prime", b"data"):
        assert secret.hex() not in shown


# Structures that swtpm wrote.

TYPES: dict[str, Any] = {
    "TPM2B_PUBLIC": objects.TPM2B_PUBLIC,
    "TPMS_ATTEST": s.TPMS_ATTEST,
    "TPMT_SIGNATURE": alg.TPMT_SIGNATURE,
    "TPM2B_CREATION_DATA": creation.TPM2B_CREATION_DATA,
    "TPMT_TK_CREATION": s.TPMT_TK_CREATION,
    "TPMS_CAPABILITY_DATA": s.TPMS_CAPABILITY_DATA,
    "TPMS_ALGORITHM_DETAIL_ECC": alg.TPMS_ALGORITHM_DETAIL_ECC,
    "TPM2B_NV_PUBLIC": nv.TPM2B_NV_PUBLIC,
}


@pytest.mark.parametrize(("tp", "name"), [(tp, name) for tp in SWTPM for name in SWTPM[tp]])
def test_a_structure_of_another_tpm_reads_and_writes_alike(tp: str, name: str) -> None:
    raw = bytes.fromhex(SWTPM[tp][name])
    value, off = reader_of(TYPES[tp])(raw, 0)
    assert off == len(raw)
    assert writer_of(TYPES[tp])(value) == raw


def test_the_members_of_another_tpms_structures() -> None:
    raw = bytes.fromhex(SWTPM["TPM2B_PUBLIC"]["createprimary rsa2048"])
    public, _ = reader_of(objects.TPM2B_PUBLIC)(raw, 0)
    assert public.parameters == objects.TPMS_RSA_PARMS(
        alg.TPMT_SYM_DEF_OBJECT(TPM_ALG_AES, 128, TPM_ALG_CFB), alg.TPMT_RSA_SCHEME(TPM_ALG_NULL), 2048, 0)
    assert public.object_attributes & attributes.TPMA_OBJECT_RESTRICTED
    assert len(public.unique) == 256
    quote = decode(s.TPMS_ATTEST, bytes.fromhex(SWTPM["TPMS_ATTEST"]["quote"]))
    assert quote.extra_data == bytes(range(1, 9))
    assert isinstance(quote.attested, s.TPMS_QUOTE_INFO)
    assert quote.attested.pcr_select == [
        s.TPMS_PCR_SELECTION(TPM_ALG_SHA1, b"\x03\0\0"),
        s.TPMS_PCR_SELECTION(TPM_ALG_SHA256, b"\x01\x04\x80"),
    ]
    assert len(quote.attested.pcr_digest) == 32
    index, _ = reader_of(nv.TPM2B_NV_PUBLIC)(bytes.fromhex(SWTPM["TPM2B_NV_PUBLIC"]["nvreadpublic"]), 0)
    assert (index.nv_index, index.data_size) == (0x01500016, 32)
    assert index.attributes & attributes.TPMA_NV_WRITTEN
