"""What a scenario of TPM 1.2 is: how both TPMs come to take one valid command, and its octets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha1
from hmac import digest as hmac
from typing import Any, NamedTuple

from hwtpm.client12 import Session
from hwtpm.tpm12.requests.command import Command
from hwtpm.wire import handle_area, parameter_area, parameter_writer
from tests.oracle.layout import Field, walk
from tests.oracle.tpm12.sides import OWNED, Side
from tests.support.tpm12 import OWNER_AUTH

NONCE_ODD = b"odd nonce of oracle."
Covers = Callable[[bytes, bytes], bytes]


def parameter_digest(ordinal: bytes, parameters: bytes) -> bytes:
    """Return what most authorizations cover (Part 1, 13)."""
    return sha1(ordinal + parameters).digest()


def transport_digest(ordinal: bytes, parameters: bytes) -> bytes:
    """Return what the authorization of TPM_ExecuteTransport covers: here wrapped commands have no handles."""
    wrapped = parameters[4:]
    return sha1(ordinal + parameters[:4] + sha1(wrapped[6:10] + wrapped[10:]).digest()).digest()


class Case:
    """A request that is valid now, and the sessions that authorize it."""

    def __init__(self, request: Command[Any], *sessions: Session, covers: Covers = parameter_digest) -> None:
        self.request, self.sessions, self.covers = request, list(sessions), covers

    def body(self) -> bytes:
        """Return the command without its authorizations."""
        kind = type(self.request)
        handles = b"".join(getattr(self.request, m.name).to_bytes(4, "big") for m in handle_area(kind))
        rest = self.request.ORD.to_bytes(4, "big") + handles + parameter_writer(kind)(self.request)
        tag = (0xC1 + len(self.sessions)).to_bytes(2, "big")
        return tag + (6 + len(rest)).to_bytes(4, "big") + rest

    def fields(self, body: bytes) -> list[Field]:
        """Return where each member stands in the body."""
        found = [
            Field("tag", "int", 0, 2, None),
            Field("commandSize", "size", 2, 4, None),
            Field("commandCode", "int", 6, 4, None),
        ]
        kind, off = type(self.request), 10
        for member in handle_area(kind):
            found.append(Field(member.name, "handle", off, 4, member.spec))
            off += 4
        for member in parameter_area(kind):
            inner = list(walk(member.type, getattr(self.request, member.name), off, member.name))
            found += inner
            off = inner[-1].offset + inner[-1].size
        assert off == len(body), f"the fields of {kind.__name__} end at {off} of {len(body)}"
        return found

    def sealed(
        self, body: bytes, sessions: Sequence[Session] | None = None, continues: int = 0
    ) -> tuple[bytes, list[int]]:
        """Return *body* with its authorizations, which are right, and the offsets of these."""
        start = 10 + 4 * len(handle_area(type(self.request)))
        covered = self.covers(body[6:10], body[start:])
        offsets = []
        for session in self.sessions if sessions is None else sessions:
            offsets.append(len(body))
            end = NONCE_ODD + bytes([continues])
            proof = hmac(session.key, covered + session.nonce_even + end, "sha1")
            body += session.handle.to_bytes(4, "big") + end + proof
        return sized(body), offsets


def sized(command: bytes) -> bytes:
    """Return *command* with its size in the header."""
    return command[:2] + len(command).to_bytes(4, "big") + command[6:]


class Scenario(NamedTuple):
    """*build* readies one side; members named in *varies* differ between any two TPMs."""

    name: str
    request: type[Command[Any]]
    build: Callable[[Side], Case]
    base: str
    varies: frozenset[str]


SCENARIOS: list[Scenario] = []


def scenario(
    request: type[Command[Any]], base: str = OWNED, *, varies: str = ""
) -> Callable[[Callable[[Side], Case]], Callable[[Side], Case]]:
    """Register a function that readies a side for *request*."""

    def register(build: Callable[[Side], Case]) -> Callable[[Side], Case]:
        SCENARIOS.append(Scenario(build.__name__, request, build, base, frozenset(varies.split())))
        return build

    return register


def simple(request: Command[Any], name: str = "", base: str = OWNED, *, present: bool = False,
           varies: str = "") -> None:
    """Register a request that needs no authorization."""

    def build(side: Side) -> Case:
        if present:
            side.present()
        return Case(request)

    build.__name__ = name or type(request).__name__
    scenario(type(request), base, varies=varies)(build)


def owners(request: Command[Any], name: str = "", *, varies: str = "") -> None:
    """Register a request that the owner authorizes."""
    build: Callable[[Side], Case] = lambda side: Case(request, side.client.oiap(OWNER_AUTH))  # noqa: E731
    build.__name__ = name or type(request).__name__
    scenario(type(request), varies=varies)(build)
