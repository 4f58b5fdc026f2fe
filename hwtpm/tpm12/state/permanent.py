"""TPM_PERMANENT_DATA, as far as it has no owner of its own (Part 2, 7.4)."""

from __future__ import annotations

from collections.abc import Callable
from hmac import compare_digest
from typing import Annotated, ClassVar, Final

from hwtpm.errors import TpmError
from hwtpm.tpm12.profile import MAX_NV_WRITE_NOOWNER
from hwtpm.tpm12.state.keys import Key, StoredKey
from hwtpm.tpm12.state.owner import Owner
from hwtpm.tpm12.types.base import TPM_BOOL, TPM_NONCE, TPM_SECRET, UINT8, UINT32
from hwtpm.tpm12.types.codes import TPM_MAXNVWRITES
from hwtpm.tpm12.types.key import TPM_PUBKEY
from hwtpm.wire import SECRET, Boxed, Fixed, Wire, decode, encode

_FORMAT: Final = 1
_SYMMETRIC = Annotated[bytes, Fixed(16), SECRET]
_STORED_KEY = Annotated[StoredKey | None, Boxed(optional=True)]


class _Permanent(Wire):
    version: UINT8
    owner_installed: TPM_BOOL
    owner_auth: TPM_SECRET
    operator_auth: TPM_SECRET
    tpm_proof: TPM_SECRET
    ek_reset: TPM_NONCE
    context_key: _SYMMETRIC
    delegate_key: _SYMMETRIC
    daa_blob_key: _SYMMETRIC
    daa_proof: TPM_SECRET
    tpm_daa_seed: TPM_SECRET
    restrict_delegate: UINT32
    no_owner_nv_write: UINT32
    manu_maint_pub: Annotated[TPM_PUBKEY | None, Boxed(optional=True)]
    endorsement_key: _STORED_KEY
    srk: _STORED_KEY


class PermanentData(Owner):
    """Secrets and keys of the TPM; read freely, changed through `set`.

    `endorsement_key` and `srk` are None where there is none.  `context_key`, `delegate_key` and
    `daa_blob_key` are AES-128 keys.  `owner_auth` is valid while `owner_installed`.
    """

    TAG: ClassVar[bytes] = b"perm"

    def __init__(self, random: Callable[[int], bytes]) -> None:
        super().__init__()
        self._random = random
        self.owner_installed = False
        self.owner_auth = self.operator_auth = self.tpm_proof = self.ek_reset = bytes(20)
        self.daa_proof = self.tpm_daa_seed = bytes(20)
        self.context_key = self.delegate_key = self.daa_blob_key = bytes(16)
        self.restrict_delegate = 0
        self.no_owner_nv_write = 0
        self.manu_maint_pub: TPM_PUBKEY | None = None
        self.endorsement_key: Key | None = None
        self.endorsement_key_fresh = False  # it was made since power came
        self.srk: Key | None = None

    def set(self, **values: object) -> None:
        """The members named have these values."""
        for name, value in values.items():
            setattr(self, name, value)
        self.touch()

    def next_nv_write(self) -> int:
        """Return how many NV writes without an owner one more makes; TPM_MAXNVWRITES for too many."""
        writes = self.no_owner_nv_write + 1
        if writes > MAX_NV_WRITE_NOOWNER:
            raise TpmError(TPM_MAXNVWRITES)
        return writes

    def count_nv_writes(self, writes: int) -> None:
        """So many NV writes without an owner have been made."""
        if writes != self.no_owner_nv_write:
            self.set(no_owner_nv_write=writes)

    def manufacture(self, random: Callable[[int], bytes]) -> None:
        """The secrets that a TPM has before it has an owner are new."""
        self._renew_owner_secrets(random)
        self.renew_daa_secrets(random)

    def was_made_from(self, random: Callable[[int], bytes]) -> bool:
        """Tell whether a secret is still what `manufacture` gives with *random*."""
        made = type(self)(random)
        made.manufacture(random)
        return (compare_digest(self.tpm_proof, made.tpm_proof)
                or compare_digest(self.tpm_daa_seed, made.tpm_daa_seed))

    def _renew_owner_secrets(self, random: Callable[[int], bytes]) -> None:
        self.set(tpm_proof=random(20), context_key=random(16), delegate_key=random(16))

    def renew_daa_secrets(self, random: Callable[[int], bytes]) -> None:
        """The secrets of DAA are new: nothing that was made with the old ones can be used any more."""
        self.set(tpm_daa_seed=random(20), daa_proof=random(20), daa_blob_key=random(16))

    def owner_clear(self, *, revoke: bool = False) -> None:
        """There is no owner and no SRK; with *revoke* no endorsement key either.

        The secrets that belonged to them are replaced, so that what was made with them is worthless.
        """
        self.set(owner_installed=False, owner_auth=bytes(20), operator_auth=bytes(20), srk=None,
                 no_owner_nv_write=0, restrict_delegate=0)
        self._renew_owner_secrets(self._random)
        if revoke:
            self.set(endorsement_key=None, ek_reset=bytes(20))
            self.renew_daa_secrets(self._random)

    def save(self) -> bytes:
        """Return version and all members."""
        stored = [StoredKey.of(key) if key is not None else None for key in (self.endorsement_key, self.srk)]
        return encode(_Permanent(
            _FORMAT, self.owner_installed, self.owner_auth, self.operator_auth, self.tpm_proof, self.ek_reset,
            self.context_key, self.delegate_key, self.daa_blob_key, self.daa_proof, self.tpm_daa_seed,
            self.restrict_delegate, self.no_owner_nv_write, self.manu_maint_pub, *stored,
        ))

    def restore(self, state: bytes) -> None:
        """Take what `save` gave."""
        found = decode(_Permanent, state)
        if found.version != _FORMAT:
            raise ValueError(f"permanent data of version {found.version}")
        for name in ("owner_auth", "operator_auth", "tpm_proof", "ek_reset", "context_key", "delegate_key",
                     "daa_blob_key", "daa_proof", "tpm_daa_seed", "restrict_delegate", "no_owner_nv_write",
                     "manu_maint_pub"):
            setattr(self, name, getattr(found, name))
        self.owner_installed = bool(found.owner_installed)
        self.endorsement_key = found.endorsement_key.key() if found.endorsement_key is not None else None
        self.srk = found.srk.key() if found.srk is not None else None
