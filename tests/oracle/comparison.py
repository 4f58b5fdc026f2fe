"""Whether two responses say the same, apart from what must differ between two TPMs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hwtpm.command import response_of
from hwtpm.errors import TpmError
from hwtpm.tpm2.requests.capability import GetCapabilityResponse
from hwtpm.tpm2.requests.command import Command
from hwtpm.tpm2.types import constants
from hwtpm.tpm2.types.algorithms import TPMS_SIGNATURE_ECC, TPMS_SIGNATURE_RSA
from hwtpm.tpm2.types.attributes import TPMA_SESSION_ENCRYPT
from hwtpm.tpm2.types.constants import TPM_CAP_TPM_PROPERTIES, TPM_ST_SESSIONS
from hwtpm.tpm2.types.structures import TPMS_ATTEST
from hwtpm.wire import Wire, decode, handle_area, parameter_reader
from tests.oracle.sides import ENDED

# What is made from randomness, secrets or time of its own: (structure, member).  The length is compared,
# except where it follows from sizes of digests and keys that each TPM chooses, which `_FREE` names.
_VARIES = {
    ("GetRandomResponse", "random_bytes"),
    ("StartAuthSessionResponse", "nonce_tpm"),
    ("TPMS_CLOCK_INFO", "clock"),
    ("TPMS_TIME_INFO", "time"),
    ("TPMS_SIGNATURE_ECC", "signature_r"),
    ("TPMS_SIGNATURE_ECC", "signature_s"),
    ("TPMS_ATTEST", "firmware_version"),
    ("TPMS_TIME_ATTEST_INFO", "firmware_version"),
    ("RSAEncryptResponse", "out_data"),
    ("ECDHKeyGenResponse", "z_point"),
    ("ECDHKeyGenResponse", "pub_point"),
    ("ECEphemeralResponse", "q"),
    ("ZGen2PhaseResponse", "out_z2"),
    ("ECCEncryptResponse", "c1"),
    ("ECCEncryptResponse", "c2"),
    ("ECCEncryptResponse", "c3"),
    ("CommitResponse", "point_e"),
    ("CommitResponse", "point_k"),
    ("CommitResponse", "point_l"),
    ("DuplicateResponse", "encryption_key_out"),
    ("DuplicateResponse", "out_sym_seed"),
    ("RewrapResponse", "out_sym_seed"),
    ("MakeCredentialResponse", "secret"),
    ("PolicySignedResponse", "timeout"),
    ("PolicySecretResponse", "timeout"),
    ("CertifyX509Response", "tbs_digest"),
    ("CertifyX509Response", "added_to_certificate"),
}
_FREE = {
    ("TPMT_TK_CREATION", "digest"),
    ("TPMT_TK_VERIFIED", "hmac"),
    ("TPMT_TK_AUTH", "digest"),
    ("TPMT_TK_HASHCHECK", "digest"),
    ("TPMS_CONTEXT", "context_blob"),
    ("TPMS_CONTEXT", "sequence"),
    ("CreateResponse", "out_private"),
    ("CreateLoadedResponse", "out_private"),
    ("ImportResponse", "out_private"),
    ("ObjectChangeAuthResponse", "out_private"),
    ("DuplicateResponse", "duplicate"),
    ("RewrapResponse", "out_duplicate"),
    ("MakeCredentialResponse", "credential_blob"),
    ("CertifyX509Response", "added_to_certificate"),
    ("GetTestResultResponse", "out_data"),
}
# Properties whose values are limits of the implementation or count what it has left (Part 2, 6.13).
_LIMITS = {
    constants.TPM_PT_HR_LOADED_AVAIL,
    constants.TPM_PT_HR_ACTIVE_AVAIL,
    constants.TPM_PT_HR_TRANSIENT_AVAIL,
    constants.TPM_PT_HR_PERSISTENT_AVAIL,
    constants.TPM_PT_NV_COUNTERS_AVAIL,
    constants.TPM_PT_LOADED_CURVES,
    constants.TPM_PT_ALGORITHM_SET,
}
_VARIABLE = 0x200  # the first of the properties that change (Part 2, 6.13, PT_VAR)
_NAMES = {
    value: name[7:]
    for name, value in vars(constants).items()
    if name.startswith("TPM_RC_")
    and name
    not in (
        "TPM_RC_VER1",
        "TPM_RC_FMT1",
        "TPM_RC_WARN",
        "TPM_RC_H",
        "TPM_RC_P",
        "TPM_RC_S",
        "TPM_RC_NOT_USED",
    )
    and not name[7:].isdigit()
    and len(name) > 8
}


def rc_name(rc: int) -> str:
    """Return a response code as "VALUE P2", "HANDLE H1", "AUTH_FAIL S1", "AUTH_MISSING" or "ok"."""
    if rc == 0:
        return "ok"
    if rc == ENDED:
        return "ended"
    if not rc & 0x80:
        return _NAMES.get(rc, f"0x{rc:03x}")
    number, name = rc >> 8 & 0xF, _NAMES.get(rc & 0xBF, f"0x{rc:03x}")
    if rc & 0x40:
        return f"{name} P{number}"
    return name if not number else f"{name} S{number - 8}" if number >= 8 else f"{name} H{number}"


def code(response: bytes) -> int:
    return int.from_bytes(response[6:10], "big")


def differences(request: type[Command[Any]], ours: bytes, theirs: bytes, varies: frozenset[str]) -> list[str]:
    """Return where two successful responses differ."""
    if ours[:2] != theirs[:2]:
        return ["tag"]
    try:
        mine, acknowledged = _parts(request, ours)
    except TpmError as error:
        return [f"ours is malformed: {rc_name(error.rc)}"]
    try:
        other, others = _parts(request, theirs)
    except TpmError as error:
        return [f"swtpm's cannot be read: {rc_name(error.rc)}"]
    found = list(_values(mine, other, "", varies))
    if acknowledged != others:
        found.append("sessions")
    return found


def malformed(request: type[Command[Any]], response: bytes) -> str:
    """Return what is wrong with a successful response; empty if nothing."""
    try:
        _parts(request, response)
    except TpmError as error:
        return f"ours is malformed: {rc_name(error.rc)}"
    return ""


def _parts(request: type[Command[Any]], response: bytes) -> tuple[Wire | None, list[tuple[int, int, int]]]:
    """Return the response and, of each session, nonce size, attributes and HMAC size."""
    cls = response_of(request)
    area, off = handle_area(cls), 10
    handles = [int.from_bytes(response[off + 4 * i : off + 4 * i + 4], "big") for i in range(len(area))]
    off += 4 * len(area)
    end = len(response)
    if response[:2] == TPM_ST_SESSIONS.to_bytes(2, "big"):
        end = off + 4 + int.from_bytes(response[off : off + 4], "big")
        off += 4
    first, parameters = off, end
    acknowledged = []
    while end < len(response):
        nonce = int.from_bytes(response[end : end + 2], "big")
        attributes = response[end + 2 + nonce]
        mac = int.from_bytes(response[end + 3 + nonce : end + 5 + nonce], "big")
        acknowledged.append((nonce, attributes, mac))
        end += 5 + nonce + mac
    if end != len(response):
        raise TpmError(constants.TPM_RC_SIZE)
    if any(attributes & TPMA_SESSION_ENCRYPT for _, attributes, _ in acknowledged):
        return None, acknowledged  # The client's tests decrypt; here it is enough that both encrypt.
    value, stop = parameter_reader(cls)(response[:parameters], first, handles)
    if stop != parameters:
        raise TpmError(constants.TPM_RC_SIZE)
    return value, acknowledged


def _values(ours: Any, theirs: Any, path: str, varies: frozenset[str]) -> Iterator[str]:
    if type(ours) is not type(theirs):
        yield path
    elif isinstance(ours, GetCapabilityResponse):
        yield from _capabilities(ours, theirs)
    elif isinstance(ours, Wire):
        for name in type(ours)._fields:
            yield from _member(ours, theirs, name, f"{path}.{name}" if path else name, varies)
    elif isinstance(ours, list):
        if len(ours) != len(theirs):
            yield f"{path}.count"
        for number, (mine, other) in enumerate(zip(ours, theirs, strict=False)):
            yield from _values(mine, other, f"{path}[{number}]", varies)
    elif isinstance(ours, bytes) and ours[:4] == b"\xffTCG" and theirs[:4] == b"\xffTCG" and len(ours) > 40:
        # A signer outside of the endorsement and platform hierarchies sees obfuscated counts.
        counts = {"reset_count", "restart_count"}
        yield from _values(decode(TPMS_ATTEST, ours), decode(TPMS_ATTEST, theirs), path, varies | counts)
    elif ours != theirs:
        yield path


def _capabilities(ours: GetCapabilityResponse, theirs: GetCapabilityResponse) -> Iterator[str]:
    group = ours.capability_data.capability
    if group != TPM_CAP_TPM_PROPERTIES:
        if ours != theirs:
            yield f"group {group}"
        return
    mine, other = (
        {p.property: p.value for p in r.capability_data.data if p.property not in _LIMITS}  # type: ignore
        for r in (ours, theirs)
    )
    if any(mine.get(p) != other.get(p) for p in mine.keys() | other.keys() if p < _VARIABLE):
        yield "fixed properties"
    for key in sorted(p for p in mine.keys() | other.keys() if p >= _VARIABLE):
        if mine.get(key) != other.get(key):
            yield f"property 0x{key:x}"


def _member(ours: Any, theirs: Any, name: str, path: str, varies: frozenset[str]) -> Iterator[str]:
    mine, other = getattr(ours, name), getattr(theirs, name)
    key = (type(ours).__name__, name)
    if name in varies or path in varies or key in _FREE:
        if isinstance(mine, bytes) and bool(mine) != bool(other):
            yield f"{path} (empty or not)"
    elif key in _VARIES:
        if isinstance(mine, bytes) and key[0] != "TPMS_SIGNATURE_ECC" and len(mine) != len(other):
            yield f"{path} (length)"
    elif isinstance(mine, TPMS_SIGNATURE_RSA) and isinstance(other, TPMS_SIGNATURE_RSA):
        # It signs clocks that differ; where it signs a given digest, the tests of signing compare.
        if mine.hash != other.hash or len(mine.sig) != len(other.sig):
            yield path
    elif isinstance(mine, TPMS_SIGNATURE_ECC) and isinstance(other, TPMS_SIGNATURE_ECC):
        if mine.hash != other.hash:
            yield path
    else:
        yield from _values(mine, other, path, varies)
