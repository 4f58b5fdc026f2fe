"""Identity keys and quotes of a TPM 2.0, as `manager.attesting` asks for them.

An identity key is a restricted RSA 2048 key below the storage key that signs with RSASSA and SHA-256.  It
certifies its own creation, as a TPM 1.2's signs its TPM_IDENTITY_CONTENTS; the endorsement key, for which
privacy CAs encrypt, is that of template L-1 (TCG EK Credential Profile 2.6, B.3.3).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from hwtpm.client import Password
from hwtpm.crypto import hashes
from hwtpm.errors import ProtocolError, StateError, TpmError
from hwtpm.tpm2.requests.attestation import CertifyCreation
from hwtpm.tpm2.requests.attestation import Quote as QuotePcrs
from hwtpm.tpm2.requests.hierarchy import CreatePrimary
from hwtpm.tpm2.requests.object import ActivateCredential, Create, Load
from hwtpm.tpm2.requests.pcr import PCRExtend, PCRRead, PCRReset
from hwtpm.tpm2.requests.policy import PolicySecret
from hwtpm.tpm2.types.algorithms import (
    TPMS_SCHEME_HASH,
    TPMS_SENSITIVE_CREATE,
    TPMS_SIGNATURE_RSA,
    TPMT_RSA_SCHEME,
    TPMT_SIG_SCHEME,
    TPMT_SIGNATURE,
    TPMT_SYM_DEF_OBJECT,
)
from hwtpm.tpm2.types.attributes import (
    TPMA_OBJECT_ADMINWITHPOLICY,
    TPMA_OBJECT_DECRYPT,
    TPMA_OBJECT_FIXEDPARENT,
    TPMA_OBJECT_FIXEDTPM,
    TPMA_OBJECT_NODA,
    TPMA_OBJECT_RESTRICTED,
    TPMA_OBJECT_SENSITIVEDATAORIGIN,
    TPMA_OBJECT_SIGN,
    TPMA_OBJECT_USERWITHAUTH,
    TPMA_SESSION_DECRYPT,
    TPMA_SESSION_ENCRYPT,
)
from hwtpm.tpm2.types.constants import (
    TPM_ALG_AES,
    TPM_ALG_CFB,
    TPM_ALG_NULL,
    TPM_ALG_RSA,
    TPM_ALG_RSASSA,
    TPM_ALG_SHA256,
    TPM_RC_AUTH_FAIL,
    TPM_RC_BAD_AUTH,
    TPM_RC_HANDLE,
    TPM_RC_INSUFFICIENT,
    TPM_RC_INTEGRITY,
    TPM_RC_NV_RANGE,
    TPM_RC_NV_SPACE,
    TPM_RC_SIZE,
    TPM_RC_VALUE,
    TPM_SE_POLICY,
)
from hwtpm.tpm2.types.handles import TPM_RH_ENDORSEMENT
from hwtpm.tpm2.types.objects import TPMS_RSA_PARMS, TPMT_PUBLIC
from hwtpm.tpm2.types.structures import TPMS_ATTEST, TPMS_PCR_SELECTION, TPMS_QUOTE_INFO, TPMT_HA
from hwtpm.tpm12.types.codes import (
    TPM_AUTHFAIL,
    TPM_BAD_PARAMETER,
    TPM_BADINDEX,
    TPM_FAIL,
    TPM_NOSPACE,
)
from hwtpm.wire import decode, encode
from manager import sealing20
from manager.attesting import QUOTE_PCRS, Aik, NewAik, Quote
from manager.cfglist import SELECTION_SIZE
from manager.requests import IdentityKey20
from manager.sealing20 import Sealer, base_code

_FIXED: Final = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN
_ATTEMPTS: Final = 4  # to read the PCRs that were quoted before somebody extends one of them

_NONE: Final = TPMT_SYM_DEF_OBJECT(TPM_ALG_NULL)

AIK_TEMPLATE: Final = TPMT_PUBLIC(
    TPM_ALG_RSA, TPM_ALG_SHA256,
    _FIXED | TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_NODA | TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_SIGN, b"",
    TPMS_RSA_PARMS(_NONE, TPMT_RSA_SCHEME(TPM_ALG_RSASSA, TPMS_SCHEME_HASH(TPM_ALG_SHA256)), 2048, 0), b"")
"""What an identity key is made from."""

EK_POLICY: Final = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
"""The policy of an endorsement key: PolicySecret of the endorsement hierarchy."""

EK_TEMPLATE: Final = TPMT_PUBLIC(
    TPM_ALG_RSA, TPM_ALG_SHA256,
    _FIXED | TPMA_OBJECT_ADMINWITHPOLICY | TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT, EK_POLICY,
    TPMS_RSA_PARMS(TPMT_SYM_DEF_OBJECT(TPM_ALG_AES, 128, TPM_ALG_CFB), TPMT_RSA_SCHEME(TPM_ALG_NULL),
                   2048, 0),
    bytes(256))
"""Template L-1 of the TCG EK Credential Profile."""

_CODES: Final = {
    TPM_RC_HANDLE: TPM_BADINDEX,
    TPM_RC_NV_SPACE: TPM_NOSPACE,
    TPM_RC_NV_RANGE: TPM_NOSPACE,
    TPM_RC_AUTH_FAIL: TPM_AUTHFAIL,
    TPM_RC_BAD_AUTH: TPM_AUTHFAIL,
    TPM_RC_INTEGRITY: TPM_BAD_PARAMETER,
    TPM_RC_VALUE: TPM_BAD_PARAMETER,
    TPM_RC_SIZE: TPM_BAD_PARAMETER,
    TPM_RC_INSUFFICIENT: TPM_BAD_PARAMETER,
}


class Attester20(Sealer):
    """A conversation that also makes and uses identities; secrets travel encrypted by the salted session."""

    def make_aik(self, label_digest: bytes, auth: bytes) -> NewAik:
        """Return a new identity key; *binding* signs the TPMS_ATTEST of its own creation."""
        created = self._client.run(
            Create(self._key, TPMS_SENSITIVE_CREATE(auth, b""), AIK_TEMPLATE, label_digest, []),
            self._secured(TPMA_SESSION_DECRYPT, self._secrets.srk))
        blob = encode(IdentityKey20(created.out_private, created.out_public))
        with self._key_loaded(blob) as handle:
            made = self._client.run(
                CertifyCreation(handle, handle, label_digest, created.creation_hash,
                                TPMT_SIG_SCHEME(TPM_ALG_NULL), created.creation_ticket),
                self._secured(0, auth))
        unique = created.out_public.unique
        if not isinstance(unique, bytes):
            raise ProtocolError("the chip made a key of another type than was asked for")
        return NewAik(Aik(unique, blob), _rsa(made.signature), made.certify_info)

    def activate(self, blob: bytes, auth: bytes, encrypted: bytes) -> bytes:
        """Return the credential that a privacy CA has made for this TPM with that key.

        *encrypted* is a TPM2B_ID_OBJECT and a TPM2B_ENCRYPTED_SECRET; TpmError if it is not.
        """
        credential, end = _sized(encrypted, 0)
        secret, end = _sized(encrypted, end)
        if end != len(encrypted):
            raise TpmError(TPM_RC_SIZE)
        with self._key_loaded(blob) as aik, self._endorsement() as (endorsement, _):
            policy = self._client.start_session(TPM_SE_POLICY)
            self._loaded.append(policy.handle)
            self._client.run(PolicySecret(TPM_RH_ENDORSEMENT, policy.handle, b"", b"", b"", 0), Password())
            found = self._client.run(
                ActivateCredential(aik, endorsement, credential, secret),
                self._secured(TPMA_SESSION_ENCRYPT, auth), policy).cert_info
        return len(found).to_bytes(2, "big") + found

    def quote(self, blob: bytes, auth: bytes, pcrs: bytes, extern: bytes) -> Quote:
        """Return the signature over a TPMS_ATTEST of *pcrs* in the SHA-256 bank."""
        with self._key_loaded(blob) as handle:
            for _ in range(_ATTEMPTS):
                made = self._client.run(
                    QuotePcrs(handle, extern, TPMT_SIG_SCHEME(TPM_ALG_NULL), _selection(pcrs)),
                    self._secured(0, auth))
                values = self.read_pcrs(pcrs)
                attested = decode(TPMS_ATTEST, made.quoted).attested
                if not isinstance(attested, TPMS_QUOTE_INFO):
                    raise ProtocolError("the chip's quote attests something else")
                if attested.pcr_digest == hashes.digest(TPM_ALG_SHA256, values):
                    return Quote(_rsa(made.signature), made.quoted, values)
        raise StateError("the chip's PCRs change while they are quoted; try again")

    def endorsement_key(self) -> bytes:
        """Return the TPMT_PUBLIC of the key that template L-1 gives."""
        with self._endorsement() as (_, public):
            return encode(public)

    def read_pcrs(self, pcrs: bytes) -> bytes:
        """Return the values of the PCRs in the SHA-256 bank."""
        found, left = b"", int.from_bytes(pcrs, "little")
        while left:
            # The chip gives as many at once as go into a list of digests.
            got = self._client.run(PCRRead(_selection(left.to_bytes(SELECTION_SIZE, "little"))))
            given = sum(int.from_bytes(s.pcr_select, "little") for s in got.pcr_selection_out)
            if not given or given & ~left or given.bit_count() != len(got.pcr_values):
                raise StateError("the chip does not have all of the selected PCRs with SHA-256")
            found, left = found + b"".join(got.pcr_values), left & ~given
        return found

    def set_quote_pcrs(self, digests: dict[int, list[bytes]]) -> None:
        """QUOTE_PCRS have been reset, in all banks, and then extended in that of SHA-256."""
        for number in QUOTE_PCRS:
            self._client.run(PCRReset(number), Password())
        for number, given in digests.items():
            for digest in given:
                self._client.run(PCRExtend(number, [TPMT_HA(TPM_ALG_SHA256, digest)]), Password())

    @contextmanager
    def _key_loaded(self, blob: bytes) -> Iterator[int]:
        """The key has this handle meanwhile."""
        key = decode(IdentityKey20, blob)
        with self._temporary():
            loaded = self._client.run(Load(self._key, key.private, key.public),
                                      self._secured(0, self._secrets.srk))
            self._loaded.append(loaded.object_handle)
            self._client.names[loaded.object_handle] = loaded.name
            yield loaded.object_handle

    @contextmanager
    def _endorsement(self) -> Iterator[tuple[int, TPMT_PUBLIC]]:
        """The endorsement key has this handle meanwhile."""
        with self._temporary():
            try:
                created = self._client.run(CreatePrimary(
                    TPM_RH_ENDORSEMENT, TPMS_SENSITIVE_CREATE(b"", b""), EK_TEMPLATE, b"", []), Password())
            except TpmError as error:
                if base_code(error) != TPM_RC_BAD_AUTH:
                    raise
                raise StateError("the chip's endorsement hierarchy has a password; remove it "
                                 "(tpm2_changeauth -c endorsement)") from None
            self._loaded.append(created.object_handle)
            self._client.names[created.object_handle] = created.name
            yield created.object_handle, created.out_public

    @contextmanager
    def _temporary(self) -> Iterator[None]:
        """What the chip loads meanwhile is gone from it then."""
        before = len(self._loaded)
        try:
            yield
        except BaseException:
            self._flush(suppressed=True, down_to=before)
            raise
        self._flush(suppressed=False, down_to=before)


class Chip20(sealing20.Chip20):
    """A chip with TPM 2.0 whose conversations do all that the manager asks for."""

    def conversation(self, parent: bytes | None) -> Attester20:
        """Return a conversation with the chip whose storage key has the Name *parent*, if that is known."""
        return Attester20(self._client, self._entropy, parent, self._secrets)

    def return_code(self, rc: int) -> int:
        """Return the code of TPM 1.2 that says what *rc* says, TPM_FAIL if none does."""
        return _CODES.get(base_code(TpmError(rc)), TPM_FAIL)


def _selection(pcrs: bytes) -> list[TPMS_PCR_SELECTION]:
    return [TPMS_PCR_SELECTION(TPM_ALG_SHA256, pcrs)]


def _sized(octets: bytes, at: int) -> tuple[bytes, int]:
    """Return a TPM2B at *at*, and where it ends; TPM_RC_INSUFFICIENT if there is none."""
    end = at + 2 + int.from_bytes(octets[at : at + 2], "big")
    if end > len(octets) or at + 2 > len(octets):
        raise TpmError(TPM_RC_INSUFFICIENT)
    return octets[at + 2 : end], end


def _rsa(signature: TPMT_SIGNATURE) -> bytes:
    """Return the octets of an RSA signature."""
    made = signature.signature
    if not isinstance(made, TPMS_SIGNATURE_RSA):
        raise ProtocolError("the chip signed otherwise than its key does")
    return made.sig
