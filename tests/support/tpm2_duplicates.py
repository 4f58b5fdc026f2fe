"""Objects that may move between TPMs: their policy, and duplicates made without a TPM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hwtpm.client import Authorization, Client, Password, Session
from hwtpm.crypto.drbg import CtrDrbg
from hwtpm.crypto.hashes import digest
from hwtpm.errors import TpmError
from hwtpm.tpm2 import secret, wrapping
from hwtpm.tpm2.requests.command import Command
from hwtpm.tpm2.requests.context import FlushContext
from hwtpm.tpm2.requests.duplication import Import
from hwtpm.tpm2.requests.object import Create, Load, ReadPublic
from hwtpm.tpm2.requests.policy import PolicyCommandCode
from hwtpm.tpm2.state.objects import Object, public_name
from hwtpm.tpm2.templates import protection
from hwtpm.tpm2.types.algorithms import TPMS_SENSITIVE_CREATE, TPMT_SYM_DEF_OBJECT
from hwtpm.tpm2.types.attributes import TPMA_OBJECT_NODA, TPMA_OBJECT_USERWITHAUTH
from hwtpm.tpm2.types.constants import (
    TPM_ALG_SHA256,
    TPM_SE_POLICY,
    TPM_CC_Duplicate,
    TPM_CC_PolicyCommandCode,
    rc_name,
)
from hwtpm.tpm2.types.handles import TPM_RH_NULL
from hwtpm.tpm2.types.objects import TPMT_PUBLIC, TPMT_SENSITIVE
from tests.support.templates import NO_CIPHER
from tests.support.tpm2_pair import Pair

MOVABLE = TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_NODA
POLICY = digest(TPM_ALG_SHA256, bytes(32), TPM_CC_PolicyCommandCode.to_bytes(4, "big"),
                TPM_CC_Duplicate.to_bytes(4, "big"))
Attempt = tuple[Command[Any], Sequence[Authorization]]
random = CtrDrbg(b"duplicates").generate


def movable(template: TPMT_PUBLIC) -> TPMT_PUBLIC:
    """Return *template* with the policy that allows TPM2_Duplicate."""
    return TPMT_PUBLIC(template.type, template.name_alg, template.object_attributes, POLICY,
                       template.parameters, template.unique)


def permit(client: Client, code: int = TPM_CC_Duplicate) -> Session:
    """Return a session that satisfies the policy, or that of another command *code*."""
    session = client.start_session(TPM_SE_POLICY)
    client.run(PolicyCommandCode(session.handle, code))
    return session


def child(client: Client, parent: int, template: TPMT_PUBLIC, data: bytes = b"", auth: bytes = b"") -> int:
    """Create an object below *parent* and load it."""
    made = client.run(Create(parent, TPMS_SENSITIVE_CREATE(auth, data), template, b"", []), Password())
    return bring(client, parent, made.out_private, made.out_public)


def bring(client: Client, parent: int, private: bytes, public: TPMT_PUBLIC) -> int:
    """Load an object."""
    loaded = client.run(Load(parent, private, public), Password())
    client.names[loaded.object_handle] = loaded.name
    return loaded.object_handle


def public_of(client: Client, handle: int) -> TPMT_PUBLIC:
    return client.run(ReadPublic(handle)).out_public


def flush(client: Client, *handles: int) -> None:
    for handle in handles:
        client.run(FlushContext(handle))


def seed_for(parent: TPMT_PUBLIC, label: bytes = b"DUPLICATE") -> tuple[bytes, bytes]:
    """Return a seed and what conveys it to *parent*."""
    key = Object(parent, None, TPM_RH_NULL, qualified_name=b"", external=True)
    return secret.encrypt_secret(key, label, random)


def duplicate(parent: TPMT_PUBLIC, public: TPMT_PUBLIC, area: bytes, *, outer: bool = True, key: bytes = b"",
              cipher: TPMT_SYM_DEF_OBJECT = NO_CIPHER) -> tuple[bytes, bytes]:
    """Return *area* as a duplicate of *public*, and the secret for *parent*."""
    name, seed = public_name(public), b""
    if key:
        area = wrapping.inner_wrap(public.name_alg, cipher, key, name, area)
    conveyed = b""
    if outer:
        seed, conveyed = seed_for(parent)
        area = wrapping.outer_wrap(parent.name_alg, seed, protection(parent), name, area)
    return area, conveyed


def software(handle: int, parent: TPMT_PUBLIC, public: TPMT_PUBLIC, sensitive: TPMT_SENSITIVE, *,
             outer: bool = True, key: bytes = b"", cipher: TPMT_SYM_DEF_OBJECT = NO_CIPHER) -> Import:
    """Return the command that imports a key of our own."""
    area = wrapping.sensitive_area(public.name_alg, sensitive)
    blob, conveyed = duplicate(parent, public, area, outer=outer, key=key, cipher=cipher)
    return Import(handle, key, public, blob, conveyed, cipher)


class Comparison:
    """Response codes of both TPMs for requests that each has its own form of."""

    def __init__(self, pair: Pair) -> None:
        self.clients = pair.ours, pair.theirs
        self.differences: list[str] = []
        self.codes: set[int] = set()

    def both(self, name: str, make: Callable[[Client], Attempt]) -> None:
        """Run what *make* gives for each of the two; note different response codes."""
        codes = [attempt(client, *make(client)) for client in self.clients]
        self.codes.add(codes[1])
        if codes[0] != codes[1]:
            self.differences.append(f"{name}: ours {_said(codes[0])}, swtpm {_said(codes[1])}")

    def compare(self, name: str, requests: dict[Client, Any]) -> None:
        """Run a request for each of the two that takes an empty password."""
        self.both(name, lambda client: (requests[client], [Password()]))


def attempt(client: Client, request: Command[Any], authorizations: Sequence[Authorization]) -> int:
    """Return the response code; a session of a refused command and a loaded object are flushed."""
    try:
        response = client.run(request, *authorizations)
    except TpmError as error:
        for session in authorizations:
            if isinstance(session, Session):
                flush(client, session.handle)
        return error.rc
    for session in authorizations:
        if isinstance(session, Session):
            flush(client, session.handle)
    if getattr(response, "object_handle", 0):
        flush(client, response.object_handle)
    return 0


def _said(rc: int) -> str:
    return f"{rc:#x} {rc_name(rc)}"
