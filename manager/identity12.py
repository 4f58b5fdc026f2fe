"""Identity keys and quotes of a TPM 1.2, as `manager.attesting` asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hwtpm.tpm12.requests.context import FlushSpecific
from hwtpm.tpm12.requests.endorsement import OwnerReadInternalPub
from hwtpm.tpm12.requests.identity import ActivateIdentity, MakeIdentity
from hwtpm.tpm12.requests.integrity import Extend, PcrRead, PCRReset
from hwtpm.tpm12.requests.integrity import Quote as QuotePcrs
from hwtpm.tpm12.requests.storage import LoadKey2
from hwtpm.tpm12.types.constants import (
    TPM_ALG_RSA,
    TPM_AUTH_ALWAYS,
    TPM_ES_NONE,
    TPM_ET_OWNER,
    TPM_KEY_IDENTITY,
    TPM_KH_EK,
    TPM_KH_OWNER,
    TPM_KH_SRK,
    TPM_RT_KEY,
    TPM_SS_RSASSAPKCS1v15_SHA1,
)
from hwtpm.tpm12.types.key import STRUCT_VER_1_1, TPM_KEY, TPM_KEY_PARMS, TPM_RSA_KEY_PARMS
from hwtpm.tpm12.types.pcr import TPM_PCR_SELECTION
from hwtpm.wire import decode, encode
from manager import sealing12
from manager.attesting import QUOTE_PCRS, Aik, NewAik, Quote
from manager.cfglist import selected
from manager.sealing12 import Conversation12, once


class Attester12(Conversation12):
    """A conversation that also makes and uses identities; all but PCRs travels in the transport session."""

    def make_aik(self, label_digest: bytes, auth: bytes) -> NewAik:
        """Return a new identity key; *binding* signs its TPM_IDENTITY_CONTENTS (Part 2, 12.5)."""
        parms = TPM_KEY_PARMS(TPM_ALG_RSA, TPM_ES_NONE, TPM_SS_RSASSAPKCS1v15_SHA1,
                              encode(TPM_RSA_KEY_PARMS(2048, 2, b"")))
        template = TPM_KEY(STRUCT_VER_1_1, 0, TPM_KEY_IDENTITY, 0, TPM_AUTH_ALWAYS, parms, b"", b"", b"")
        srk = once(self._inside.oiap(self._secrets.srk))
        owner = once(self._inside.osap(TPM_ET_OWNER, TPM_KH_OWNER, self._secrets.owner))
        made = self._inside.run(MakeIdentity(owner.encrypt(auth), label_digest, template), srk, owner)
        return NewAik(Aik(made.id_key.pub_key, encode(made.id_key)), made.identity_binding, b"")

    def activate(self, blob: bytes, auth: bytes, encrypted: bytes) -> bytes:
        """Return the TPM_SYMMETRIC_KEY that a privacy CA has sent to this TPM with that identity."""
        with self._loaded(blob) as handle:
            key, owner = once(self._inside.oiap(auth)), once(self._inside.oiap(self._secrets.owner))
            return encode(self._inside.run(ActivateIdentity(handle, encrypted), key, owner).symmetric_key)

    def quote(self, blob: bytes, auth: bytes, pcrs: bytes, extern: bytes) -> Quote:
        """Return the signature over the TPM_QUOTE_INFO of *pcrs* and *extern*."""
        with self._loaded(blob) as handle:
            made = self._inside.run(QuotePcrs(handle, extern, TPM_PCR_SELECTION(pcrs)),
                                    once(self._inside.oiap(auth)))
        return Quote(made.sig, b"", made.pcr_data.pcr_value)

    def endorsement_key(self) -> bytes:
        """Return the TPM_PUBKEY, which a TPM with an owner shows its owner only."""
        session = once(self._inside.oiap(self._secrets.owner))
        return encode(self._inside.run(OwnerReadInternalPub(TPM_KH_EK), session).public_portion)

    def read_pcrs(self, pcrs: bytes) -> bytes:
        """Return the values of the PCRs."""
        return b"".join(self._inside.run(PcrRead(number)).out_digest for number in selected(pcrs))

    def set_quote_pcrs(self, digests: dict[int, list[bytes]]) -> None:
        """QUOTE_PCRS have been reset and extended.

        Those before 23 begin with ones instead of zeros on a machine without a dynamic launch (Part 3, 16.4).
        """
        bits = sum(1 << number for number in QUOTE_PCRS).to_bytes(3, "little")
        self._client.run(PCRReset(TPM_PCR_SELECTION(bits)))
        for number, given in digests.items():
            for digest in given:
                self._client.run(Extend(number, digest))

    @contextmanager
    def _loaded(self, blob: bytes) -> Iterator[int]:
        """The key has this handle meanwhile."""
        handle = self._inside.run(LoadKey2(TPM_KH_SRK, decode(TPM_KEY, blob)),
                                  once(self._inside.oiap(self._secrets.srk))).inkey_handle
        try:
            yield handle
        finally:
            self._client.run(FlushSpecific(handle, TPM_RT_KEY))


class Chip12(sealing12.Chip12):
    """A chip with TPM 1.2 whose conversations do all that the manager asks for."""

    def conversation(self, parent: bytes | None) -> Attester12:
        """Return a conversation with the chip whose SRK has the digest *parent*, if that is known."""
        return Attester12(self._client, self._entropy, self._locality, parent, self._secrets)

    def return_code(self, rc: int) -> int:
        """Return *rc*: it is of this family."""
        return rc
