"""Whether two responses of TPM 1.2 say the same, apart from what must differ between two TPMs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hwtpm.command import response_of
from hwtpm.errors import TpmError
from hwtpm.tpm12.requests.command import Command
from hwtpm.tpm12.types import codes
from hwtpm.wire import Wire, handle_area, parameter_reader
from tests.oracle.sides import ENDED

# Members that are made from randomness or time of each TPM's own; of octets the length is compared.
_VARIES = {
    ("TPM_CURRENT_TICKS", "current_ticks"),
    ("TPM_CURRENT_TICKS", "tick_rate"),
    ("TPM_CURRENT_TICKS", "tick_nonce"),
    ("ExecuteTransportResponse", "current_ticks"),
    ("OIAPResponse", "nonce_even"),
    ("OSAPResponse", "nonce_even"),
    ("OSAPResponse", "nonce_even_osap"),
    ("DSAPResponse", "nonce_even"),
    ("DSAPResponse", "nonce_even_dsap"),
    ("EstablishTransportResponse", "trans_nonce_even"),
    ("GetRandomResponse", "random_bytes"),
    ("PubekResponse", "checksum"),
}
# Octets of a form that each TPM chooses.
_FREE = {
    ("SaveContextResponse", "context_blob"),
    ("GetAuditDigestResponse", "ord_list"),
    ("DelegationResponse", "blob"),
    ("DelegateUpdateVerificationResponse", "output_data"),
    ("GetTestResultResponse", "out_data"),
    ("CreateMaintenanceArchiveResponse", "random"),
}
_NAMES = {value: name[4:] for name, value in vars(codes).items() if name.startswith("TPM_")}


def rc_name(rc: int) -> str:
    """Return a return code as "AUTHFAIL" or "ok"."""
    return "ok" if rc == 0 else "ended" if rc == ENDED else _NAMES.get(rc, f"0x{rc:x}")


def code(response: bytes) -> int:
    """Return the return code of a response."""
    return int.from_bytes(response[6:10], "big")


def malformed(request: type[Command[Any]], response: bytes) -> str:
    """Return what is wrong with a response; empty if nothing."""
    if int.from_bytes(response[2:6], "big") != len(response):
        return "its size is wrong"
    if code(response):
        return "" if response[:2] == b"\0\xc4" and len(response) == 10 else "no error response"
    try:
        read(request, response)
    except (TpmError, ValueError) as error:
        return f"malformed: {error}"
    return ""


def read(request: type[Command[Any]], response: bytes) -> Wire:
    """Return the parameters of a successful response."""
    cls = response_of(request)
    count = int.from_bytes(response[:2], "big") - 0xC4
    if not 0 <= count <= 2:
        raise ValueError("tag")
    size, end = 4 * len(handle_area(cls)), len(response) - 41 * count
    handles = [int.from_bytes(response[10 + i : 14 + i], "big") for i in range(0, size, 4)]
    reader: Any = parameter_reader(cls, numbered=False)
    value, stop = reader(response[:end], 10 + size, handles)
    if stop != end:
        raise ValueError("octets are left")
    return value  # type: ignore[no-any-return]


def differences(request: type[Command[Any]], ours: bytes, theirs: bytes, varies: frozenset[str]) -> list[str]:
    """Return where two successful responses differ."""
    if ours[:2] != theirs[:2]:
        return ["tag"]
    try:
        mine, other = read(request, ours), read(request, theirs)
    except (TpmError, ValueError) as error:
        return [f"what cannot be read: {error}"]
    handles = {member.name for member in handle_area(response_of(request))}
    found = list(_values(mine, other, "", varies | handles))
    continues = [[r[len(r) - 41 * i - 21] for i in range(r[1] - 0xC4)] for r in (ours, theirs)]
    return found if continues[0] == continues[1] else [*found, "continueAuthSession"]


def _values(ours: Any, theirs: Any, path: str, varies: frozenset[str]) -> Iterator[str]:
    if type(ours) is not type(theirs):
        yield path
    elif isinstance(ours, Wire):
        for name in type(ours)._fields:
            yield from _member(ours, theirs, name, f"{path}.{name}" if path else name, varies)
    elif ours != theirs:
        yield path


def _member(ours: Any, theirs: Any, name: str, path: str, varies: frozenset[str]) -> Iterator[str]:
    mine, other = getattr(ours, name), getattr(theirs, name)
    key = (type(ours).__name__, name)
    if key in _FREE:
        if bool(mine) != bool(other):
            yield f"{path} (empty or not)"
    elif key in _VARIES or name in varies:
        if isinstance(mine, bytes) and len(mine) != len(other):
            yield f"{path} (length)"
    else:
        yield from _values(mine, other, path, varies)
