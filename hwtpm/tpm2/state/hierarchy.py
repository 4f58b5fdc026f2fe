"""The hierarchies: seeds, proofs, auths, policies and enables (Part 1, "TPM Control Domains")."""

from __future__ import annotations

from collections.abc import Callable
from hmac import compare_digest
from typing import Annotated, ClassVar

from hwtpm.tpm2.profile import MAX_DIGEST_SIZE, PRIMARY_SEED_SIZE, PROOF_SIZE
from hwtpm.tpm2.state.owner import FLAG, Owner, Start
from hwtpm.tpm2.types.base import UINT8, UINT16
from hwtpm.tpm2.types.constants import TPM_ALG_NULL
from hwtpm.tpm2.types.handles import (
    TPM_RH_ENDORSEMENT,
    TPM_RH_LOCKOUT,
    TPM_RH_NULL,
    TPM_RH_OWNER,
    TPM_RH_PLATFORM,
)
from hwtpm.wire import SECRET, ListOf, Sized, Wire, decode, encode

_Secret = Annotated[bytes, Sized(MAX_DIGEST_SIZE), SECRET]


class _Policy(Wire):
    alg: UINT16
    digest: Annotated[bytes, Sized(MAX_DIGEST_SIZE)]


class _Permanent(Wire):
    version: UINT8
    # In the order of _STORED.
    seeds: Annotated[list[_Secret], ListOf(3, prefix="B"), SECRET]
    proofs: Annotated[list[_Secret], ListOf(3, prefix="B"), SECRET]
    owner_auth: _Secret
    endorsement_auth: _Secret
    lockout_auth: _Secret
    owner_policy: _Policy
    endorsement_policy: _Policy
    lockout_policy: _Policy
    disable_clear: UINT8


class _Volatile(Wire):
    version: UINT8
    null_seed: _Secret
    null_proof: _Secret
    platform_auth: _Secret
    platform_policy: _Policy
    owner_enabled: UINT8
    endorsement_enabled: UINT8
    ph_enable_nv: UINT8


class _Live(Wire):
    version: UINT8
    ph_enable: FLAG


_STORED = (TPM_RH_OWNER, TPM_RH_ENDORSEMENT, TPM_RH_PLATFORM)
_NO_POLICY = (TPM_ALG_NULL, b"")


class Hierarchies(Owner):
    """Handles are TPM_RH_OWNER, _ENDORSEMENT, _PLATFORM, _NULL, and _LOCKOUT for auth and policy.

    Seeds are PRIMARY_SEED_SIZE and proofs PROOF_SIZE octets; authorization values have no trailing zeros.
    """

    TAG: ClassVar[bytes] = b"hier"

    def __init__(self) -> None:
        super().__init__()
        # The NULL hierarchy has a seed and a proof from the first Startup on.
        self._seeds: dict[int, bytes] = {TPM_RH_NULL: b""}
        self._proofs: dict[int, bytes] = {TPM_RH_NULL: b""}
        self._auths: dict[int, bytes] = dict.fromkeys((*_STORED, TPM_RH_LOCKOUT), b"")
        self._policies: dict[int, tuple[int, bytes]] = {}
        self._enabled: dict[int, bool] = dict.fromkeys(_STORED, True)
        self.ph_enable_nv = True
        self.disable_clear = False

    def manufacture(self, random: Callable[[int], bytes]) -> None:
        """Every seed and proof is new, from *random*."""
        for handle in _STORED:
            self._seeds[handle] = random(PRIMARY_SEED_SIZE)
            self._proofs[handle] = random(PROOF_SIZE)
        self.new_null(random)
        self.touch()

    def was_made_from(self, random: Callable[[int], bytes]) -> bool:
        """Tell whether a seed or proof is still what `manufacture` gives with *random*."""
        made = type(self)()
        made.manufacture(random)
        return any(compare_digest(ours[handle], theirs[handle]) for handle in _STORED
                   for ours, theirs in ((self._seeds, made._seeds), (self._proofs, made._proofs)))

    def new_null(self, random: Callable[[int], bytes]) -> None:
        """The NULL hierarchy has a new seed and proof, as after each TPM Reset."""
        self._seeds[TPM_RH_NULL] = random(PRIMARY_SEED_SIZE)
        self._proofs[TPM_RH_NULL] = random(PROOF_SIZE)

    def seed(self, handle: int) -> bytes:
        """Return the primary seed."""
        return self._seeds[handle]

    def new_seed(self, handle: int, random: Callable[[int], bytes]) -> None:
        """The hierarchy has a new primary seed."""
        self._seeds[handle] = random(PRIMARY_SEED_SIZE)
        self.touch()

    def proof(self, handle: int) -> bytes:
        """Return the secret that tickets and contexts of the hierarchy are authenticated with."""
        return self._proofs[handle]

    def new_proof(self, handle: int, random: Callable[[int], bytes]) -> None:
        """The hierarchy has a new proof: its tickets and saved contexts are void."""
        self._proofs[handle] = random(PROOF_SIZE)
        self.touch()

    def secrets(self, handle: int) -> tuple[bytes, bytes, bytes]:
        """Return all that primaries of the hierarchy and their tickets are made from: seed and proofs."""
        proofs = self._proofs
        return self._seeds[handle], proofs[handle], proofs[TPM_RH_OWNER]

    def auth(self, handle: int) -> bytes:
        """Return the authorization value; empty for the NULL hierarchy."""
        return self._auths.get(handle, b"")

    def set_auth(self, handle: int, value: bytes) -> None:
        """Set the authorization value; trailing zeros are removed (Part 1, "Authorization Values")."""
        self._auths[handle] = value.rstrip(b"\0")
        if handle != TPM_RH_PLATFORM:
            self.touch()

    def policy(self, handle: int) -> tuple[int, bytes]:
        """Return hash algorithm and digest of the policy; (TPM_ALG_NULL, empty) if there is none."""
        return self._policies.get(handle, _NO_POLICY)

    def set_policy(self, handle: int, alg: int, digest: bytes) -> None:
        """Set the policy; TPM_ALG_NULL and an empty digest remove it."""
        self._policies[handle] = (alg, digest)
        if handle != TPM_RH_PLATFORM:
            self.touch()

    def enabled(self, handle: int) -> bool:
        """Tell whether the hierarchy's enable (shEnable, ehEnable, phEnable) is SET; True for others."""
        return self._enabled.get(handle, True)

    def set_enabled(self, handle: int, enabled: bool) -> None:
        """Set shEnable, ehEnable or phEnable; they are not permanent state."""
        self._enabled[handle] = enabled

    def set_disable_clear(self, disabled: bool) -> None:
        """Set disableClear (TPM2_ClearControl)."""
        self.disable_clear = disabled
        self.touch()

    def clear(self, random: Callable[[int], bytes]) -> None:
        """What TPM2_Clear does here (Part 3, 24.6): a new SPS, new proofs, no auths and policies."""
        self._seeds[TPM_RH_OWNER] = random(PRIMARY_SEED_SIZE)
        self._proofs[TPM_RH_OWNER] = random(PROOF_SIZE)
        self._proofs[TPM_RH_ENDORSEMENT] = random(PROOF_SIZE)
        for handle in (TPM_RH_OWNER, TPM_RH_ENDORSEMENT, TPM_RH_LOCKOUT):
            self._auths[handle] = b""
            self._policies.pop(handle, None)
        self._enabled[TPM_RH_OWNER] = self._enabled[TPM_RH_ENDORSEMENT] = True
        self.touch()

    def startup(self, start: Start) -> None:
        """phEnable is SET by every Startup; the rest of the platform's state only survives a TPM Resume."""
        self._enabled[TPM_RH_PLATFORM] = True
        if start is not Start.RESUME:
            self._enabled[TPM_RH_OWNER] = self._enabled[TPM_RH_ENDORSEMENT] = True
            self.ph_enable_nv = True
            self._auths[TPM_RH_PLATFORM] = b""
            self._policies.pop(TPM_RH_PLATFORM, None)

    def save(self) -> bytes:
        """Return seeds, proofs, owner, endorsement and lockout auths and policies, and disableClear."""
        return encode(_Permanent(
            1, [self._seeds[h] for h in _STORED], [self._proofs[h] for h in _STORED],
            self._auths[TPM_RH_OWNER], self._auths[TPM_RH_ENDORSEMENT], self._auths[TPM_RH_LOCKOUT],
            _Policy(*self.policy(TPM_RH_OWNER)), _Policy(*self.policy(TPM_RH_ENDORSEMENT)),
            _Policy(*self.policy(TPM_RH_LOCKOUT)), int(self.disable_clear),
        ))

    def restore(self, state: bytes) -> None:
        """Take what `save` gave."""
        found = decode(_Permanent, state)
        if found.version != 1 or len(found.seeds) != 3 or len(found.proofs) != 3:
            raise ValueError(f"hierarchy state of version {found.version}")
        self._seeds.update(zip(_STORED, found.seeds, strict=True))
        self._proofs.update(zip(_STORED, found.proofs, strict=True))
        self._auths[TPM_RH_OWNER] = found.owner_auth
        self._auths[TPM_RH_ENDORSEMENT] = found.endorsement_auth
        self._auths[TPM_RH_LOCKOUT] = found.lockout_auth
        for handle, policy in ((TPM_RH_OWNER, found.owner_policy),
                               (TPM_RH_ENDORSEMENT, found.endorsement_policy),
                               (TPM_RH_LOCKOUT, found.lockout_policy)):
            self._policies[handle] = (policy.alg, policy.digest)
        self.disable_clear = bool(found.disable_clear)

    def save_volatile(self) -> bytes:
        """Return the NULL hierarchy, the platform's auth and policy, and the enables."""
        return encode(_Volatile(
            1, self._seeds[TPM_RH_NULL], self._proofs[TPM_RH_NULL], self._auths[TPM_RH_PLATFORM],
            _Policy(*self.policy(TPM_RH_PLATFORM)), int(self._enabled[TPM_RH_OWNER]),
            int(self._enabled[TPM_RH_ENDORSEMENT]), int(self.ph_enable_nv),
        ))

    def restore_volatile(self, state: bytes) -> None:
        """Take what `save_volatile` gave."""
        found = decode(_Volatile, state)
        if found.version != 1:
            raise ValueError(f"hierarchy state of version {found.version}")
        self._seeds[TPM_RH_NULL], self._proofs[TPM_RH_NULL] = found.null_seed, found.null_proof
        self._auths[TPM_RH_PLATFORM] = found.platform_auth
        self._policies[TPM_RH_PLATFORM] = (found.platform_policy.alg, found.platform_policy.digest)
        self._enabled[TPM_RH_OWNER] = bool(found.owner_enabled)
        self._enabled[TPM_RH_ENDORSEMENT] = bool(found.endorsement_enabled)
        self.ph_enable_nv = bool(found.ph_enable_nv)

    def save_live(self) -> bytes:
        """Return version and phEnable."""
        return encode(_Live(1, self._enabled[TPM_RH_PLATFORM]))

    def restore_live(self, state: bytes) -> None:
        """Take what `save_live` gave."""
        found = decode(_Live, state)
        if found.version != 1:
            raise ValueError(f"hierarchy state of version {found.version}")
        self._enabled[TPM_RH_PLATFORM] = bool(found.ph_enable)
