"""Object commands (Part 3, 12)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from hwtpm.tpm2.requests.command import Command
from hwtpm.tpm2.types.algorithms import TPM2B_ENCRYPTED_SECRET, TPM2B_SENSITIVE_CREATE, TPM2B_SENSITIVE_DATA
from hwtpm.tpm2.types.constants import (
    TPM_CC_ActivateCredential,
    TPM_CC_Create,
    TPM_CC_CreateLoaded,
    TPM_CC_Load,
    TPM_CC_LoadExternal,
    TPM_CC_MakeCredential,
    TPM_CC_ObjectChangeAuth,
    TPM_CC_ReadPublic,
    TPM_CC_Unseal,
)
from hwtpm.tpm2.types.creation import TPM2B_CREATION_DATA
from hwtpm.tpm2.types.handles import TPM_HANDLE
from hwtpm.tpm2.types.interface import TPMI_DH_OBJECT, TPMI_DH_PARENT, TPMI_RH_HIERARCHY
from hwtpm.tpm2.types.objects import (
    TPM2B_ID_OBJECT,
    TPM2B_PRIVATE,
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE,
    TPM2B_TEMPLATE,
)
from hwtpm.tpm2.types.structures import (
    TPM2B_AUTH,
    TPM2B_DATA,
    TPM2B_DIGEST,
    TPM2B_NAME,
    TPML_PCR_SELECTION,
    TPMT_TK_CREATION,
)
from hwtpm.wire import PLUS, SECRET, Role, Wire


class CreateResponse(Wire):
    out_private: TPM2B_PRIVATE
    out_public: TPM2B_PUBLIC
    creation_data: TPM2B_CREATION_DATA
    creation_hash: TPM2B_DIGEST
    creation_ticket: TPMT_TK_CREATION


class Create(Command[CreateResponse]):
    """A new object is returned, wrapped by its parent; it is not loaded.  Part 3, 12.1."""

    CC: ClassVar[int] = TPM_CC_Create
    LONG: ClassVar[bool] = True
    parent_handle: Annotated[TPMI_DH_OBJECT, Role.USER]
    in_sensitive: TPM2B_SENSITIVE_CREATE
    in_public: TPM2B_PUBLIC
    outside_info: TPM2B_DATA
    creation_pcr: TPML_PCR_SELECTION


class LoadResponse(Wire):
    object_handle: Annotated[TPM_HANDLE, Role.NONE]
    name: TPM2B_NAME


class Load(Command[LoadResponse]):
    """The object that its parent wrapped is loaded at a transient handle.  Part 3, 12.2."""

    CC: ClassVar[int] = TPM_CC_Load
    parent_handle: Annotated[TPMI_DH_OBJECT, Role.USER]
    in_private: TPM2B_PRIVATE
    in_public: TPM2B_PUBLIC


class LoadExternalResponse(Wire):
    object_handle: Annotated[TPM_HANDLE, Role.NONE]
    name: TPM2B_NAME


class LoadExternal(Command[LoadExternalResponse]):
    """An object that is not protected by the TPM is loaded at a transient handle.  Part 3, 12.3."""

    CC: ClassVar[int] = TPM_CC_LoadExternal
    in_private: TPM2B_SENSITIVE
    in_public: Annotated[TPM2B_PUBLIC, PLUS]
    hierarchy: TPMI_RH_HIERARCHY


class ReadPublicResponse(Wire):
    out_public: Annotated[TPM2B_PUBLIC, PLUS]  # LoadExternal takes objects without a name algorithm.
    name: TPM2B_NAME
    qualified_name: TPM2B_NAME


class ReadPublic(Command[ReadPublicResponse]):
    """The public area and both names of a loaded object are returned.  Part 3, 12.4."""

    CC: ClassVar[int] = TPM_CC_ReadPublic
    object_handle: Annotated[TPMI_DH_OBJECT, Role.NONE]


class ActivateCredentialResponse(Wire):
    cert_info: Annotated[TPM2B_DIGEST, SECRET]


class ActivateCredential(Command[ActivateCredentialResponse]):
    """The credential is decrypted: both objects that it was made for are in this TPM.  Part 3, 12.5."""

    CC: ClassVar[int] = TPM_CC_ActivateCredential
    activate_handle: Annotated[TPMI_DH_OBJECT, Role.ADMIN]
    key_handle: Annotated[TPMI_DH_OBJECT, Role.USER]
    credential_blob: TPM2B_ID_OBJECT
    secret: TPM2B_ENCRYPTED_SECRET


class MakeCredentialResponse(Wire):
    credential_blob: TPM2B_ID_OBJECT
    secret: TPM2B_ENCRYPTED_SECRET


class MakeCredential(Command[MakeCredentialResponse]):
    """The credential is encrypted for the object of the given name and the key.  Part 3, 12.6."""

    CC: ClassVar[int] = TPM_CC_MakeCredential
    handle: Annotated[TPMI_DH_OBJECT, Role.NONE]
    credential: Annotated[TPM2B_DIGEST, SECRET]
    object_name: TPM2B_NAME


class UnsealResponse(Wire):
    out_data: TPM2B_SENSITIVE_DATA


class Unseal(Command[UnsealResponse]):
    """The data of a loaded sealed data object are returned.  Part 3, 12.7."""

    CC: ClassVar[int] = TPM_CC_Unseal
    item_handle: Annotated[TPMI_DH_OBJECT, Role.USER]


class ObjectChangeAuthResponse(Wire):
    out_private: TPM2B_PRIVATE


class ObjectChangeAuth(Command[ObjectChangeAuthResponse]):
    """The object is returned wrapped with its new authValue; the loaded one is unchanged.  Part 3, 12.8."""

    CC: ClassVar[int] = TPM_CC_ObjectChangeAuth
    object_handle: Annotated[TPMI_DH_OBJECT, Role.ADMIN]
    parent_handle: Annotated[TPMI_DH_OBJECT, Role.NONE]
    new_auth: TPM2B_AUTH


class CreateLoadedResponse(Wire):
    object_handle: Annotated[TPM_HANDLE, Role.NONE]
    out_private: TPM2B_PRIVATE
    out_public: TPM2B_PUBLIC
    name: TPM2B_NAME


class CreateLoaded(Command[CreateLoadedResponse]):
    """A new ordinary, primary or derived object is loaded at a transient handle.  Part 3, 12.9."""

    CC: ClassVar[int] = TPM_CC_CreateLoaded
    LONG: ClassVar[bool] = True
    parent_handle: Annotated[TPMI_DH_PARENT, Role.USER]
    in_sensitive: TPM2B_SENSITIVE_CREATE
    in_public: TPM2B_TEMPLATE
