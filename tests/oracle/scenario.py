"""What a scenario is: how both TPMs come to take one valid command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from hwtpm.client import Authorization, Password
from hwtpm.tpm2.requests.command import Command
from hwtpm.tpm2.requests.context import FlushContext
from hwtpm.tpm2.requests.policy import PolicyGetDigest
from hwtpm.tpm2.types.constants import TPM_SE_POLICY, TPM_SE_TRIAL
from hwtpm.wire import handle_area
from tests.oracle.sides import Side, octets, run


class Case:
    """A request that is valid now, and what authorizes it: unless told otherwise, empty passwords."""

    def __init__(self, request: Command[Any], *authorizations: Authorization | bytes) -> None:
        roles = sum(1 for m in handle_area(type(request)) if m.role is not None and m.role.value)
        self.request = request
        self.authorizations: tuple[Authorization, ...] = tuple(
            Password(a) if isinstance(a, bytes) else a for a in authorizations or [b""] * roles
        )

    def octets(self, side: Side) -> bytes:
        return octets(side, self.request, *self.authorizations)


class Scenario(NamedTuple):
    """*build* readies one side; members of the response named in *varies* differ between any two TPMs.

    Mutations that match *unlike* shift octets of one member into others, and each TPM's octets differ.
    """

    name: str
    request: type[Command[Any]]
    build: Callable[[Side], Case]
    varies: frozenset[str]
    unlike: str
    refused: bool  # no TPM accepts it: it names what is optional and not there
    thin: bool  # costs much: only few of its mutations are tried


SCENARIOS: list[Scenario] = []


def scenario(
    request: type[Command[Any]],
    *,
    varies: str = "",
    unlike: str = "$^",
    refused: bool = False,
    thin: bool = False,
) -> Callable[[Callable[[Side], Case]], Callable[[Side], Case]]:
    """Register a function that readies a side for *request*."""

    def register(build: Callable[[Side], Case]) -> Callable[[Side], Case]:
        SCENARIOS.append(
            Scenario(build.__name__, request, build, frozenset(varies.split()), unlike, refused, thin)
        )
        return build

    return register


def simple(request: Command[Any], name: str = "", *, refused: bool = False, unlike: str = "$^") -> None:
    """Register a request that needs no preparation."""
    build: Callable[[Side], Case] = lambda side: Case(request)  # noqa: E731
    build.__name__ = name or type(request).__name__.lower()
    scenario(type(request), refused=refused, unlike=unlike)(build)


def policy_session(side: Side, *assertions: Callable[[int], Command[Any]], kind: int = TPM_SE_POLICY) -> Any:
    """Start a policy session and have it assert."""
    session = side.client.start_session(kind)
    for assertion in assertions:
        run(side, assertion(session.handle))
    return session


def policy_digest(side: Side, *assertions: Callable[[int], Command[Any]]) -> bytes:
    """Return the policyDigest after the assertions."""
    session = policy_session(side, *assertions, kind=TPM_SE_TRIAL)
    found = run(side, PolicyGetDigest(session.handle)).policy_digest
    run(side, FlushContext(session.handle))
    return found
