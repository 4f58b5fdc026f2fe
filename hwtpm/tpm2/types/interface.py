"""The types of constants, and the interface types (Part 2, 6 and 9; v185).

Both are integers with a set of allowed values and the code that answers all others.

Handle ranges are `range` objects or `Handles`, algorithm sets come from the profile.  A type's null value is
allowed where it is used with "+" (``Annotated[TPMI_ALG_HASH, PLUS]``).  Interface types of algorithms and
objects are in the chapters that define them (`algorithms`, `objects`).

Firmware-limited and SVN-limited hierarchies and vendor-specific authorization values are not implemented, so
the types refuse their handles.
"""

from __future__ import annotations

from typing import Annotated

from hwtpm.tpm2 import profile
from hwtpm.tpm2.types.base import UINT8, UINT16, UINT32
from hwtpm.tpm2.types.constants import (
    TPM_ALG_ECC,
    TPM_ALG_ECDH,
    TPM_ALG_ECMQV,
    TPM_ALG_HMAC,
    TPM_ALG_NULL,
    TPM_ALG_RSA,
    TPM_ALG_SM2,
    TPM_ALG_XOR,
    TPM_CAP_FIRST,
    TPM_CAP_LAST,
    TPM_CAP_VENDOR_PROPERTY,
    TPM_CLOCK_COARSE_FASTER,
    TPM_CLOCK_COARSE_SLOWER,
    TPM_EO_BITCLEAR,
    TPM_EO_EQ,
    TPM_RC_ASYMMETRIC,
    TPM_RC_BAD_TAG,
    TPM_RC_HASH,
    TPM_RC_KDF,
    TPM_RC_MODE,
    TPM_RC_SCHEME,
    TPM_RC_SYMMETRIC,
    TPM_SE_HMAC,
    TPM_SE_POLICY,
    TPM_SE_TRIAL,
    TPM_ST_NO_SESSIONS,
    TPM_ST_SESSIONS,
    TPM_SU_CLEAR,
    TPM_SU_STATE,
)
from hwtpm.tpm2.types.handles import (
    AC_FIRST,
    AC_LAST,
    EXTERNAL_NV_FIRST,
    EXTERNAL_NV_LAST,
    HMAC_SESSION_FIRST,
    HMAC_SESSION_LAST,
    NV_INDEX_FIRST,
    NV_INDEX_LAST,
    PCR_FIRST,
    PCR_LAST,
    PERMANENT_NV_FIRST,
    PERMANENT_NV_LAST,
    PERSISTENT_FIRST,
    PERSISTENT_LAST,
    POLICY_SESSION_FIRST,
    POLICY_SESSION_LAST,
    TPM_RH_ACT_0,
    TPM_RH_ACT_F,
    TPM_RH_ENDORSEMENT,
    TPM_RH_LOCKOUT,
    TPM_RH_NULL,
    TPM_RH_OWNER,
    TPM_RH_PLATFORM,
    TPM_RH_PLATFORM_NV,
    TPM_RS_PW,
    TRANSIENT_FIRST,
    TRANSIENT_LAST,
)
from hwtpm.wire import Int


class Handles:
    """A container of ranges of handles and of single ones."""

    __slots__ = ("_ranges", "_single")

    def __init__(self, *ranges: range, single: frozenset[int] = frozenset()) -> None:
        self._ranges, self._single = ranges, single

    def __contains__(self, handle: object) -> bool:
        return any(handle in r for r in self._ranges) or handle in self._single


class TwoRanges:
    """The same for exactly two ranges, faster: what most commands that use a key or session have."""

    __slots__ = ("_first", "_second")

    def __init__(self, first: range, second: range) -> None:
        self._first, self._second = first, second

    def __contains__(self, handle: object) -> bool:
        return handle in self._first or handle in self._second


_PCRS = range(PCR_FIRST, PCR_LAST + 1)
_NV = range(NV_INDEX_FIRST, NV_INDEX_LAST + 1)
_EXTERNAL_NV = range(EXTERNAL_NV_FIRST, EXTERNAL_NV_LAST + 1)
_PERMANENT_NV = range(PERMANENT_NV_FIRST, PERMANENT_NV_LAST + 1)
_HMAC_SESSIONS = range(HMAC_SESSION_FIRST, HMAC_SESSION_LAST + 1)
_POLICY_SESSIONS = range(POLICY_SESSION_FIRST, POLICY_SESSION_LAST + 1)
_TRANSIENT = range(TRANSIENT_FIRST, TRANSIENT_LAST + 1)
_PERSISTENT = range(PERSISTENT_FIRST, PERSISTENT_LAST + 1)
_ACTS = range(TPM_RH_ACT_0, TPM_RH_ACT_F + 1)
_BASE_HIERARCHIES = frozenset({TPM_RH_OWNER, TPM_RH_PLATFORM, TPM_RH_ENDORSEMENT})
_HIERARCHIES = _BASE_HIERARCHIES | {TPM_RH_NULL}

# 6: constants as types
TPM_ALG_ID = UINT16
TPM_ECC_CURVE = UINT16
TPM_CC = UINT32
TPM_RC = UINT32
TPM_CLOCK_ADJUST = Annotated[int, Int("b", allowed=range(TPM_CLOCK_COARSE_SLOWER,
                                                         TPM_CLOCK_COARSE_FASTER + 1))]
TPM_EO = Annotated[int, Int("H", allowed=range(TPM_EO_EQ, TPM_EO_BITCLEAR + 1))]
TPM_ST = UINT16
TPM_SU = Annotated[int, Int("H", allowed=frozenset({TPM_SU_CLEAR, TPM_SU_STATE}))]
TPM_SE = Annotated[int, Int("B", allowed=frozenset({TPM_SE_HMAC, TPM_SE_POLICY, TPM_SE_TRIAL}))]
TPM_CAP = Annotated[int, Int("I", allowed=Handles(range(TPM_CAP_FIRST, TPM_CAP_LAST + 1),
                                                  single=frozenset({TPM_CAP_VENDOR_PROPERTY})))]
TPM_PT = UINT32
TPM_PT_PCR = UINT32
TPM_PS = UINT32
TPM_HT = UINT8

# 9.2
TPMI_YES_NO = Annotated[int, Int("B", allowed=frozenset({0, 1}))]

# 9.3 to 9.12: handles of objects and sessions
TPMI_DH_OBJECT = Annotated[int, Int("I", allowed=TwoRanges(_TRANSIENT, _PERSISTENT), null=TPM_RH_NULL)]
TPMI_DH_PARENT = Annotated[int, Int("I", allowed=Handles(_TRANSIENT, _PERSISTENT, single=_HIERARCHIES))]
TPMI_DH_PERSISTENT = Annotated[int, Int("I", allowed=_PERSISTENT)]
TPMI_DH_ENTITY = Annotated[int, Int("I", null=TPM_RH_NULL, allowed=Handles(
    _TRANSIENT, _PERSISTENT, _NV, _PCRS, single=_BASE_HIERARCHIES | {TPM_RH_LOCKOUT}))]
TPMI_DH_PCR = Annotated[int, Int("I", allowed=_PCRS, null=TPM_RH_NULL)]
TPMI_SH_AUTH_SESSION = Annotated[int, Int("I", null=TPM_RS_PW,
                                          allowed=TwoRanges(_HMAC_SESSIONS, _POLICY_SESSIONS))]
TPMI_SH_HMAC = Annotated[int, Int("I", allowed=_HMAC_SESSIONS)]
TPMI_SH_POLICY = Annotated[int, Int("I", allowed=_POLICY_SESSIONS)]
TPMI_DH_CONTEXT = Annotated[int, Int("I", allowed=Handles(_HMAC_SESSIONS, _POLICY_SESSIONS, _TRANSIENT))]
# The three kinds of a saved object: ordinary, sequence, with stClear (Table 58).
TPMI_DH_SAVED = Annotated[int, Int("I", allowed=Handles(
    _HMAC_SESSIONS, _POLICY_SESSIONS, range(0x80000000, 0x80000003)))]

# 9.13 to 9.30: permanent handles, NV indices, attached components and timers
TPMI_RH_HIERARCHY = Annotated[int, Int("I", allowed=_HIERARCHIES, null=TPM_RH_NULL)]
TPMI_RH_ENABLES = Annotated[int, Int("I", allowed=_BASE_HIERARCHIES | {TPM_RH_PLATFORM_NV}, null=TPM_RH_NULL)]
TPMI_RH_HIERARCHY_AUTH = Annotated[int, Int("I", allowed=_BASE_HIERARCHIES | {TPM_RH_LOCKOUT},
                                            null=TPM_RH_NULL)]
TPMI_RH_HIERARCHY_POLICY = Annotated[int, Int("I", allowed=Handles(
    _ACTS, single=_BASE_HIERARCHIES | {TPM_RH_LOCKOUT}))]
TPMI_RH_BASE_HIERARCHY = Annotated[int, Int("I", allowed=_BASE_HIERARCHIES)]
TPMI_RH_PLATFORM = Annotated[int, Int("I", allowed=frozenset({TPM_RH_PLATFORM}))]
TPMI_RH_OWNER = Annotated[int, Int("I", allowed=frozenset({TPM_RH_OWNER}), null=TPM_RH_NULL)]
TPMI_RH_ENDORSEMENT = Annotated[int, Int("I", allowed=frozenset({TPM_RH_ENDORSEMENT}), null=TPM_RH_NULL)]
TPMI_RH_PROVISION = Annotated[int, Int("I", allowed=frozenset({TPM_RH_OWNER, TPM_RH_PLATFORM}))]
TPMI_RH_CLEAR = Annotated[int, Int("I", allowed=frozenset({TPM_RH_LOCKOUT, TPM_RH_PLATFORM}))]
TPMI_RH_NV_AUTH = Annotated[int, Int("I", allowed=Handles(
    _NV, single=frozenset({TPM_RH_OWNER, TPM_RH_PLATFORM})))]
TPMI_RH_LOCKOUT = Annotated[int, Int("I", allowed=frozenset({TPM_RH_LOCKOUT}))]
TPMI_RH_NV_INDEX = Annotated[int, Int("I", allowed=Handles(_NV, _EXTERNAL_NV, _PERMANENT_NV))]
TPMI_RH_NV_DEFINED_INDEX = Annotated[int, Int("I", allowed=TwoRanges(_NV, _EXTERNAL_NV))]
TPMI_RH_NV_LEGACY_INDEX = Annotated[int, Int("I", allowed=_NV)]
TPMI_RH_NV_EXP_INDEX = Annotated[int, Int("I", allowed=_EXTERNAL_NV)]
TPMI_RH_AC = Annotated[int, Int("I", allowed=range(AC_FIRST, AC_LAST + 1))]
TPMI_RH_ACT = Annotated[int, Int("I", allowed=_ACTS)]

# 9.31 to 9.38, 9.40 and 9.41: algorithms
TPMI_ALG_HASH = Annotated[int, Int("H", allowed=profile.HASHES, rc=TPM_RC_HASH, null=TPM_ALG_NULL)]
TPMI_ALG_ASYM = Annotated[int, Int("H", allowed=frozenset({TPM_ALG_RSA, TPM_ALG_ECC}), rc=TPM_RC_ASYMMETRIC,
                                   null=TPM_ALG_NULL)]
TPMI_ALG_SYM = Annotated[int, Int("H", allowed=profile.SYMMETRIC | {TPM_ALG_XOR}, rc=TPM_RC_SYMMETRIC,
                                  null=TPM_ALG_NULL)]
TPMI_ALG_SYM_OBJECT = Annotated[int, Int("H", allowed=profile.SYMMETRIC, rc=TPM_RC_SYMMETRIC,
                                         null=TPM_ALG_NULL)]
TPMI_ALG_SYM_MODE = Annotated[int, Int("H", allowed=profile.SYM_MODES | profile.MAC_SCHEMES, rc=TPM_RC_MODE,
                                       null=TPM_ALG_NULL)]
TPMI_ALG_KDF = Annotated[int, Int("H", allowed=profile.KDFS, rc=TPM_RC_KDF, null=TPM_ALG_NULL)]
TPMI_ALG_SIG_SCHEME = Annotated[int, Int("H", rc=TPM_RC_SCHEME, null=TPM_ALG_NULL, allowed=(
    profile.RSA_SIGNING_SCHEMES | profile.ECC_SIGNING_SCHEMES | {TPM_ALG_HMAC}))]
TPMI_ECC_KEY_EXCHANGE = Annotated[int, Int("H", rc=TPM_RC_SCHEME, null=TPM_ALG_NULL, allowed=(
    profile.ECC_KEY_EXCHANGES & {TPM_ALG_ECDH, TPM_ALG_SM2, TPM_ALG_ECMQV}))]
TPMI_ALG_MAC_SCHEME = Annotated[int, Int("H", allowed=profile.HASHES | profile.MAC_SCHEMES,
                                         rc=TPM_RC_SYMMETRIC, null=TPM_ALG_NULL)]
TPMI_ALG_CIPHER_MODE = Annotated[int, Int("H", allowed=profile.SYM_MODES, rc=TPM_RC_MODE, null=TPM_ALG_NULL)]

TPMI_ST_COMMAND_TAG = Annotated[int, Int("H", allowed=frozenset({TPM_ST_NO_SESSIONS, TPM_ST_SESSIONS}),
                                         rc=TPM_RC_BAD_TAG)]  # 9.39
