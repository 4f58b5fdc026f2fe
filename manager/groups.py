"""What administrators do with groups: create, activate, register, update, show, quote, recover, delete.

A group is named by its index in the list of groups, as in Xen; the list has no holes, so those behind a group
that is deleted move down.  Refusals have the return codes of Xen's vtpm_cmd_handler.c where it implements an
ordinal, and nothing has changed then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple
from uuid import UUID

from hwtpm.crypto import aead, dh, ids, kdf
from hwtpm.crypto.errors import AuthenticationFailed, BadKey, OutOfRange
from hwtpm.crypto.rsa import RsaPublic
from hwtpm.errors import StateError, TpmError
from hwtpm.tpm12.types.codes import (
    TPM_BAD_PARAMETER,
    TPM_DECRYPT_ERROR,
    TPM_ENCRYPT_ERROR,
    TPM_FAIL,
    TPM_INAPPROPRIATE_SIG,
    TPM_KEYNOTFOUND,
)
from manager.attesting import AttestingConversation, NewAik, Quote
from manager.cfglist import CfgList, Update, read_update, selection
from manager.chipuse import ChipUse
from manager.closed import ClosedManager
from manager.keys import KEY_SIZE
from manager.manager import Manager
from manager.model import ROOT, Group, Platform
from manager.quote import (
    ALL_FLAGS,
    RECOVERS,
    REGISTERS,
    SHOWS,
    Meaning,
    Subject,
    digest,
    extern_data,
    group_extern,
    pcr_digests,
    requested,
)
from manager.refused import Refused
from manager.requests import MODULUS, VTPM_INVALID_REQUEST
from manager.vtpms import Connection, group_number, installed, open_group, uuid_of

WELL_KNOWN: Final = bytes(20)
"""The secret of identity keys that belong to no group."""

_SHA1_INFO: Final = bytes.fromhex("3021300906052b0e03021a05000414")
_SHA256_INFO: Final = bytes.fromhex("3031300d060960864801650304020105000420")
_INFO: Final = {"1.2": _SHA1_INFO, "2.0": _SHA256_INFO}
"""What is before the digest in an RSASSA-PKCS1-v1_5 signature (RFC 8017, 9.2)."""


class NewGroup(NamedTuple):
    """A group that was created, and its identity key."""

    uuid: UUID
    aik: NewAik


class Shown(NamedTuple):
    """What a group is; *saa* is 256 zeros before it has an SAA."""

    uuid: UUID
    saa: bytes
    cfg_list: bytes


class Registration(NamedTuple):
    """What a SAA needs to recover a group: a half of the exchange, the encrypted key, and the proof."""

    public: bytes
    blob: bytes
    proof: Quote


class Recovery(NamedTuple):
    """The beginning of a recovery: a half of the exchange, and who asks."""

    public: bytes
    proof: Quote


class VtpmQuote(NamedTuple):
    """A quote for a vTPM, and the hashes that were requested, in order."""

    quote: Quote
    hashes: list[bytes]


class Groups:
    """The groups of *manager*, with the chip that *use* gives; quotes have this *meaning*.

    Every method raises Refused, and otherwise what the manager and the chip raise.  Safe to use from any
    thread.
    """

    def __init__(self, manager: Manager, use: ChipUse, entropy: Callable[[int], bytes],
                 meaning: Meaning) -> None:
        self._manager, self._use, self._entropy = manager, use, entropy
        self.meaning = meaning
        self._exchanges: dict[int, dh.Exchange] = {}  # of recoveries that have begun, by number

    def count(self) -> int:
        """Return how many groups there are, at least one."""
        return len(self._manager.groups())

    def new(self, label_digest: bytes, saa: bytes) -> NewGroup:
        """There is one more group, whose SAA has the key *saa*, a modulus; or the first has its SAA.

        The key of the new group is sealed to the machine as it is.  *label_digest* is for a privacy CA.
        """
        _check_modulus(saa)
        auth = self._entropy(20)
        with self._use.conversation() as chip:
            made, boot = chip.make_aik(label_digest, auth), chip.boot()
        with self._manager.change() as change:
            group = change.group(ROOT)
            provisions = not group.saa
            if not provisions:
                group = Group(_uuid(self._entropy), recovery=boot)
            group.saa, group.aik, group.aik_auth = saa, made.aik.blob, auth
            if provisions:
                change.put_group(ROOT, group)
            else:
                change.new_group(group)
        return NewGroup(UUID(bytes=group.uuid), made)

    def delete(self, index: int, is_open: Callable[[UUID], bool]) -> None:
        """The group and its vTPMs are gone, with the keys of both.

        TPM_FAIL for the first group, which controls the whole, and while a vTPM of it *is_open*, which has to
        stay as it is meanwhile.
        """
        number = group_number(self._manager, index)
        if number == ROOT:
            raise Refused(TPM_FAIL, "the first group cannot be deleted")
        for uuid in self._manager.vtpms(number):
            if is_open(uuid):
                raise Refused(TPM_FAIL, f"vTPM {uuid} of group {index} is running")
        with self._manager.change() as change:
            change.remove_group(number)
        self._exchanges.pop(number, None)

    def activate(self, index: int, encrypted: bytes) -> bytes:
        """Return what a privacy CA has *encrypted* for the identity key of the group.

        The PCRs 20 to 23 are set before, since the CA can demand a state of them.
        """
        _, group = self._provisioned(index)
        with self._use.conversation() as chip:
            chip.set_quote_pcrs(pcr_digests(self._use.family, subject(self._use.family, group)))
            return chip.activate(group.aik, group.aik_auth, encrypted)

    def register(self, index: int, public: bytes, proof: bytes, pcrs: bytes) -> Registration:
        """The SAA can recover the group from now on.

        *public* is its half of the exchange, and *proof* its signature over that.

        TPM_FAIL if the chip was reset since the group was created, because the quote could not prove any more
        that its key was never in another configuration; if it was registered before; or if the SAA has not
        signed.
        """
        number, group = self._provisioned(index)
        family = self._use.family
        if group.registered:
            raise Refused(TPM_FAIL, f"group {index} has been registered before")
        if signature_code(family, group.saa, public, proof):
            raise Refused(TPM_FAIL, "its SAA has not signed this half of the exchange")
        exchange = dh.Exchange(self._entropy)
        secret = self._manager.secret(number)
        # The first group's key opens the store, so nothing in the store can help to recover it.
        key = secret if number == ROOT else self._entropy(KEY_SIZE)
        blob = _xor(_shared(exchange, public), key)
        with self._quoting(group) as chip:
            if not group.recovery or chip.boot() != group.recovery:
                made = "the store" if number == ROOT else "it"
                raise Refused(TPM_FAIL, f"group {index} was created before the chip was reset, so it cannot "
                                        f"be registered; make {made} anew, and register before a reset")
            extern = group_extern(family, self.meaning, REGISTERS, public, exchange.public, blob)
            quote = chip.quote(group.aik, group.aik_auth, checked_selection(pcrs), extern)
        with self._manager.change() as change:
            group = change.group(number)
            if group.registered:
                raise Refused(TPM_FAIL, f"group {index} has been registered meanwhile")
            group.registered, group.recovery = 1, self._recovery(group, key, secret)
            change.put_group(number, group)
        return Registration(exchange.public, blob, quote)

    def update(self, index: int, signature: bytes, signed: bytes) -> None:
        """The configurations of the group are those that *signed* has: a TPM_MGR_CFG_LIST and its selections.

        Its key is sealed to each platform of the list, and to the machine as it is if there is none.
        TPM_FAIL for a sequence number that is lower than before, or the same with another list;
        TPM_BAD_PARAMETER and TPM_SIZE as `read_update` says; TPM_INAPPROPRIATE_SIG, TPM_DECRYPT_ERROR and
        TPM_ENCRYPT_ERROR if the SAA did not sign the list.
        """
        number, _ = self._provisioned(index)
        with self._manager.change() as change:
            group = change.group(number)
            new = self._checked(index, group, signature, signed)
            group.sequence = new.cfg_list.sequence
            group.platforms = [Platform(bits, found) for bits, found in
                               zip(new.selections, new.cfg_list.platforms, strict=True)]
            group.kernels = list(new.cfg_list.kernels)
            key = _recovery_key(group, change.secret(number)) if group.registered else b""
            change.seal(number, group.platforms)
            if key:
                group.recovery = self._recovery(group, key, change.secret(number))
            change.put_group(number, group)

    def _checked(self, index: int, group: Group, signature: bytes, signed: bytes) -> Update:
        """Return what *signed* has, if it may follow on what *group* has and its SAA has signed it."""
        family, sequence = self._use.family, int.from_bytes(signed[:8], "big")
        if len(signed) >= 8 and sequence < group.sequence:
            raise Refused(TPM_FAIL, f"the list of group {index} is number {group.sequence} already, this one "
                                    f"is {sequence}")
        try:
            new = read_update(signed, family)
        except TpmError as error:
            raise Refused(error.rc, "the configuration list is malformed or too long") from None
        octets = new.cfg_list.octets(family)
        if code := signature_code(family, group.saa, octets, signature):
            raise Refused(code, f"the SAA of group {index} has not signed this configuration list")
        if installed(group) and sequence == group.sequence and octets != cfg_list(group).octets(family):
            raise Refused(TPM_FAIL, f"group {index} has another list with number {sequence}")
        return new

    def show(self, index: int) -> Shown:
        """Return what the group is, whether it is closed or not."""
        group = self._manager.group(group_number(self._manager, index))
        return Shown(UUID(bytes=group.uuid), group.saa or bytes(MODULUS),
                     cfg_list(group).octets(self._use.family))

    def quote(self, index: int, nonce: bytes, pcrs: bytes) -> Quote:
        """Return a quote of the chip for the group."""
        _, group = self._provisioned(index)
        extern = group_extern(self._use.family, self.meaning, SHOWS, nonce)
        with self._quoting(group) as chip:
            return chip.quote(group.aik, group.aik_auth, checked_selection(pcrs), extern)

    def quote_vtpm(self, connection: Connection, data: bytes, pcrs: bytes, flags: int) -> VtpmQuote:
        """Return a quote of the chip for the vTPM, which has loaded or saved before.

        TPM_BAD_PARAMETER before that, VTPM_INVALID_REQUEST for flags that there are not.
        """
        uuid = uuid_of(connection)
        if not connection.opened:
            raise Refused(TPM_BAD_PARAMETER, "it has neither loaded nor saved yet")
        if flags & ~ALL_FLAGS:
            raise Refused(VTPM_INVALID_REQUEST, f"flags 0x{flags:x}")
        bits, number = checked_selection(pcrs), self._manager.find(uuid)
        if number is None:
            raise Refused(TPM_BAD_PARAMETER, "it was deleted")
        group = self._manager.group(number)
        if not group.aik:
            raise Refused(TPM_KEYNOTFOUND, "its group has no identity key yet")
        family, meaning = self._use.family, self.meaning
        about = subject(family, group, uuid, connection.kernel)
        found = requested(family, flags, about, meaning)
        extern = extern_data(family, flags, data, found, meaning)
        with self._use.conversation() as chip:
            if meaning.documented_pcrs:
                chip.set_quote_pcrs(pcr_digests(family, about))
            return VtpmQuote(chip.quote(group.aik, group.aik_auth, bits, extern), found)

    def recover1(self, index: int, proxy: bytes, nonce: bytes, pcrs: bytes) -> Recovery:
        """The recovery of the closed group has begun.

        The quote is by *proxy*, an identity key that `ChipUse.make_identity` made.  TPM_FAIL if the group is
        open, or cannot be recovered because its key was never registered.
        """
        number = group_number(self._manager, index)
        if self._manager.closed(number) is None:
            raise Refused(TPM_FAIL, f"group {index} is open")
        # Nobody can read what the first group is while it is closed.
        group = None if number == ROOT else self._manager.group(number)
        if group is not None and not group.registered:
            raise Refused(TPM_FAIL, f"group {index} was never registered with its SAA")
        exchange = dh.Exchange(self._entropy)
        extern = group_extern(self._use.family, self.meaning, RECOVERS, nonce, exchange.public)
        with self._quoting(group) as chip:
            quote = chip.quote(proxy, WELL_KNOWN, checked_selection(pcrs), extern)
        self._exchanges[number] = exchange
        return Recovery(exchange.public, quote)

    def recover2(self, index: int, public: bytes, blob: bytes) -> None:
        """The group is open, and its key sealed to its configurations and to the machine as it is.

        The first group's is the root key: after this the manager can start again.
        TPM_FAIL if no recovery has begun, TPM_DECRYPT_ERROR if *blob* is not its key; then it begins again.
        """
        number = group_number(self._manager, index)
        exchange = self._exchanges.pop(number, None)
        if exchange is None:
            raise Refused(TPM_FAIL, f"no recovery of group {index} has begun")
        key = _xor(_shared(exchange, public), blob)
        if isinstance(self._manager, ClosedManager):
            self._recover_root(self._manager, key)
            return
        sealed = self._manager.seals(number)[0].pcrs
        with self._use.conversation() as chip:
            here = chip.platform(sealed)
        with self._manager.change() as change:
            try:
                change.opened(number, _recovered(change.group(number), key))
            except (StateError, AuthenticationFailed):
                raise Refused(TPM_DECRYPT_ERROR, f"this is not the key of group {index}") from None
            group = change.group(number)
            platforms = list(group.platforms)
            change.seal(number, platforms if here in platforms else [*platforms, here])
            group.recovery = self._recovery(group, key, change.secret(number))
            change.put_group(number, group)

    def _recover_root(self, manager: ClosedManager, key: bytes) -> None:
        try:
            manager.recover(key)
        except StateError as error:
            raise Refused(TPM_DECRYPT_ERROR, f"this is not the key of the first group, or the store cannot "
                                             f"be opened: {error}") from None

    def _recovery(self, group: Group, key: bytes, secret: bytes) -> bytes:
        """Return what lets the recovery *key* give the *secret* of the group, and the other way round.

        With it the group can be recovered as long as it is registered, whatever its secret is by then.
        """
        def sealed(under: bytes, plain: bytes) -> bytes:
            return aead.seal(_derived(under), self._entropy(aead.NONCE_SIZE), plain, group.uuid)

        return sealed(secret, key) + sealed(key, secret)

    @contextmanager
    def _quoting(self, group: Group | None) -> Iterator[AttestingConversation]:
        """A conversation in which the PCRs 20 to 23 say which group it is about, if quotes mean that.

        If nobody knows, they say nothing.
        """
        family = self._use.family
        with self._use.conversation() as chip:
            if self.meaning.documented_pcrs:
                chip.set_quote_pcrs(pcr_digests(family, subject(family, group)) if group is not None else {})
            yield chip

    def _provisioned(self, index: int) -> tuple[int, Group]:
        """Return number and group; TPM_AUTHFAIL if it is closed, TPM_KEYNOTFOUND if it has no SAA and AIK."""
        number = open_group(self._manager, index)
        group = self._manager.group(number)
        if not group.saa:
            raise Refused(TPM_KEYNOTFOUND, f"group {index} has no SAA yet")
        return number, group


def _recovery_key(group: Group, secret: bytes) -> bytes:
    return aead.open(_derived(secret), group.recovery[: len(group.recovery) // 2], group.uuid)


def _recovered(group: Group, key: bytes) -> bytes:
    """Return the secret of the group; AuthenticationFailed if *key* is not its recovery key."""
    return aead.open(_derived(key), group.recovery[len(group.recovery) // 2 :], group.uuid)


def _derived(key: bytes) -> bytes:
    return kdf.kdfa(ids.SHA256, key, b"cusetpm manager recovery", b"", b"", 256)


def cfg_list(group: Group) -> CfgList:
    """Return the configuration list of *group*."""
    return CfgList(group.sequence, tuple(p.digest for p in group.platforms), tuple(group.kernels))


def subject(family: str, group: Group, vtpm: UUID | None = None, kernel: bytes = bytes(20)) -> Subject:
    """Return what quotes for the group, and for one of its vTPMs, are about."""
    return Subject(group.uuid, group.saa or bytes(MODULUS), cfg_list(group).octets(family),
                   None if vtpm is None else vtpm.bytes, kernel)


def signature_code(family: str, modulus: bytes, octets: bytes, signature: bytes) -> int:
    """Return 0 if *signature* is that of *modulus* over *octets*, else why not (Xen tpmrsa.c)."""
    try:
        block = RsaPublic(modulus).raw(signature)
    except OutOfRange:
        return TPM_ENCRYPT_ERROR
    found = digest(family, octets)
    head = _INFO[family]
    padding = b"\0\1" + b"\xff" * (MODULUS - 3 - len(head) - len(found)) + b"\0" + head
    if block[: len(padding)] != padding:
        return TPM_INAPPROPRIATE_SIG
    return 0 if block[len(padding) :] == found else TPM_DECRYPT_ERROR


def _check_modulus(modulus: bytes) -> None:
    try:
        if RsaPublic(modulus).size == MODULUS:
            return
    except BadKey:
        pass
    raise Refused(TPM_BAD_PARAMETER, "the SAA's key is not the modulus of an RSA key of 2048 bits")


def checked_selection(pcrs: bytes) -> bytes:
    """Return the selection with three octets, or refuse it."""
    try:
        return selection(pcrs)
    except TpmError as error:
        raise Refused(error.rc, "a selection of PCRs that there are not") from None


def _shared(exchange: dh.Exchange, public: bytes) -> bytes:
    try:
        return exchange.key(public)
    except OutOfRange:
        raise Refused(TPM_BAD_PARAMETER, "not a half of a Diffie-Hellman exchange") from None


def _uuid(entropy: Callable[[int], bytes]) -> bytes:
    """Return a random UUID, 16 octets."""
    return UUID(bytes=entropy(16), version=4).bytes


def _xor(one: bytes, two: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, two, strict=True))
