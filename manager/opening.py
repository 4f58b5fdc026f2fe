"""What a store and its chip give to open it: the root key, and the key mask that goes with it."""

from __future__ import annotations

from collections.abc import Sequence

from hwtpm.errors import StateError, TpmError
from manager.keys import KEY_SIZE, RootKeys
from manager.model import Identity, SealedKey, pcr_list
from manager.sealing import Conversation, OtherConfiguration, SealingChip


class RootClosed(StateError):
    """The chip does not unseal the root key in this configuration of the machine; *pcrs* is a bit map."""

    def __init__(self, message: str, pcrs: bytes) -> None:
        super().__init__(message)
        self.pcrs = pcrs


def present_keys(chip: SealingChip, talk: Conversation, root: bytes, identity: Identity) -> RootKeys:
    """Return the keys of the store *identity*, whose sealed key is *root*, under the mask of *chip* now.

    A store that was one of format 1 has none until a first key is destroyed.  StateError, one line for
    people, if the chip has lost it.
    """
    keys = RootKeys(root, b"", identity)
    if not identity.mask:
        return keys
    try:
        return RootKeys(root, talk.read_area(identity.mask, 0, keys.mask_auth, KEY_SIZE), identity)
    except TpmError:
        if chip.has_area(identity.mask):
            raise
        raise StateError(f"the chip has no key mask at NV index 0x{identity.mask:08x}; put the chip's NV "
                         f"back that belongs to this store") from None


def not_ours(epoch: int, count: int) -> str:
    """Return what to say of a store whose mark does not belong to the root key under the chip's mask."""
    if epoch < count:
        return (f"an old copy of the store was put back, from save {epoch} of {count}, and the key that "
                f"opens it has been destroyed since, so it cannot be accepted; put the newest copy back")
    return ("damaged, or an old copy of the chip's NV was put back: its mark cannot be decrypted; put the "
            "newest copies back")


def unsealed(chip: Conversation, seals: Sequence[SealedKey]) -> bytes:
    """Return the key that is sealed to one or more configurations, in the one that the machine is in.

    OtherConfiguration, with all PCRs that are meant, if it is in none of them; another StateError if one is
    damaged and no other helps.
    """
    pcrs, damage = 0, None
    for sealed in seals:
        try:
            return chip.unseal(sealed)
        except OtherConfiguration as error:
            pcrs |= int.from_bytes(error.pcrs, "little")
        except StateError as error:
            damage = error
    if damage is not None:
        raise damage
    raise OtherConfiguration(pcrs.to_bytes(max(len(sealed.pcrs) for sealed in seals), "little"))


def unsealed_root(chip: Conversation, seals: Sequence[SealedKey]) -> bytes:
    """Return the sealed root key; RootClosed if the machine is in none of its configurations."""
    try:
        return unsealed(chip, seals)
    except OtherConfiguration as error:
        raise RootClosed(
            f"the chip does not unseal the root key: its PCRs ({pcr_list(error.pcrs)}) have changed; start "
            f"the machine as it was when the store was made, or have the SAA of the first group recover it "
            f"(cusetpm manager group recover 0)", error.pcrs) from None
