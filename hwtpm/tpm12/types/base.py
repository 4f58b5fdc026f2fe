"""Basic types (Part 2, 2.2, 5 and 6): integers, digests, nonces, authorization data, handles."""

from __future__ import annotations

from typing import Annotated, Final

from hwtpm.tpm12.types.codes import TPM_BAD_PARAMETER
from hwtpm.wire import SECRET, Fixed, Int, Role, Sized

UINT8 = Annotated[int, Int("B")]
UINT16 = Annotated[int, Int("H")]
UINT32 = Annotated[int, Int("I")]
UINT64 = Annotated[int, Int("Q")]
TPM_BOOL = Annotated[int, Int("B", allowed=(0, 1), rc=TPM_BAD_PARAMETER)]

TPM_DIGEST_SIZE: Final = 20
TPM_DIGEST = Annotated[bytes, Fixed(TPM_DIGEST_SIZE)]
TPM_COMPOSITE_HASH = TPM_DIGEST
TPM_PCRVALUE = TPM_DIGEST
TPM_DIRVALUE = TPM_DIGEST
TPM_NONCE = Annotated[bytes, Fixed(20)]
TPM_AUTHDATA = Annotated[bytes, Fixed(20)]
TPM_SECRET = Annotated[bytes, Fixed(20), SECRET]
TPM_ENCAUTH = Annotated[bytes, Fixed(20)]
ZERO_DIGEST: Final = bytes(TPM_DIGEST_SIZE)

TPM_BUFFER_MAX: Final = 4096
SIZED = Annotated[bytes, Sized(TPM_BUFFER_MAX, prefix="I")]
"""A UINT32 size and as many octets: the pairs xxxSize, xxx of the specification."""

SECRET_SIZED = Annotated[bytes, Sized(TPM_BUFFER_MAX, prefix="I"), SECRET]

# Members of the handle area: they come first and no digest covers them (Part 1, 13).
HANDLE = Annotated[int, Int("I"), Role.NONE]
TPM_KEY_HANDLE = HANDLE
