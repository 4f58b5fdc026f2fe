"""Object commands (Part 3, 12)."""

from __future__ import annotations

from hwtpm.crypto import hashes
from hwtpm.errors import TpmError
from hwtpm.tpm2 import creation, templates, wrapping
from hwtpm.tpm2.context import Tpm, handles
from hwtpm.tpm2.requests.object import (
    Create,
    CreateResponse,
    Load,
    LoadExternal,
    LoadExternalResponse,
    LoadResponse,
    ObjectChangeAuth,
    ObjectChangeAuthResponse,
    ReadPublic,
    ReadPublicResponse,
    Unseal,
    UnsealResponse,
)
from hwtpm.tpm2.state.objects import Object, public_name, qualified_name
from hwtpm.tpm2.types.attributes import (
    TPMA_OBJECT_DECRYPT,
    TPMA_OBJECT_FIRMWARELIMITED,
    TPMA_OBJECT_FIXEDPARENT,
    TPMA_OBJECT_FIXEDTPM,
    TPMA_OBJECT_RESTRICTED,
    TPMA_OBJECT_SIGN,
    TPMA_OBJECT_SVNLIMITED,
)
from hwtpm.tpm2.types.constants import (
    TPM_ALG_KEYEDHASH,
    TPM_ALG_NULL,
    TPM_ALG_RSA,
    TPM_RC_ATTRIBUTES,
    TPM_RC_HASH,
    TPM_RC_HIERARCHY,
    TPM_RC_KEY_SIZE,
    TPM_RC_SEQUENCE,
    TPM_RC_SIZE,
    TPM_RC_TYPE,
)
from hwtpm.tpm2.types.handles import TPM_RH_NULL
from hwtpm.tpm2.types.objects import TPMT_SENSITIVE

# What an external object with a sensitive area cannot claim (Part 2, 8.3.3, "External").
_NOT_EXTERNAL = (TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_RESTRICTED
                 | TPMA_OBJECT_FIRMWARELIMITED | TPMA_OBJECT_SVNLIMITED)
_NOT_SEALED = TPMA_OBJECT_DECRYPT | TPMA_OBJECT_SIGN | TPMA_OBJECT_RESTRICTED


def _parent(tpm: Tpm, handle: int) -> Object:
    """Return the Storage Parent at *handle*, the first of the command; TPM_RC_TYPE if it is none."""
    parent = tpm.objects.loaded(handle)
    if parent is None or not parent.is_parent:
        raise TpmError(TPM_RC_TYPE).handle(1)
    return parent


@handles
def create(tpm: Tpm, cmd: Create) -> CreateResponse:
    """A new object is made and returned, wrapped by its parent.  Part 3, 12.1.

    TPM_RC_TYPE (handle 1): not a Storage Parent.  TPM_RC_ATTRIBUTES, TPM_RC_SCHEME, TPM_RC_SYMMETRIC,
    TPM_RC_KDF, TPM_RC_HASH, TPM_RC_SIZE (parameter 2): the template is not acceptable.  TPM_RC_SIZE
    (parameter 1): the authValue is longer than a digest of nameAlg.  TPM_RC_RANGE, TPM_RC_SIZE,
    TPM_RC_KEY_SIZE: the exponent or the data do not suit the template.  TPM_RC_CANCELED.
    """
    # Input Validation
    parent = _parent(tpm, cmd.parent_handle)
    template, given = cmd.in_public, cmd.in_sensitive
    templates.check_request(template, parent, given)

    # Command Output
    public, sensitive = creation.create(template, given, creation.ordinary(tpm))
    name = public_name(public)
    private = wrapping.protect(parent, name, public.name_alg, sensitive, tpm.random)
    data, digest = creation.creation_data(tpm, parent, public.name_alg, cmd.creation_pcr, cmd.outside_info)
    ticket = creation.creation_ticket(tpm, parent.hierarchy, name, digest)
    return CreateResponse(private, public, data, digest, ticket)


@handles
def load(tpm: Tpm, cmd: Load) -> LoadResponse:
    """An object is loaded that its parent wrapped.  Part 3, 12.2.

    TPM_RC_OBJECT_MEMORY: no transient handle is free.  TPM_RC_TYPE (handle 1): not a Storage Parent.
    TPM_RC_SIZE (parameter 1): no private area.  TPM_RC_INTEGRITY (parameter 1): not wrapped by this parent,
    or not for this public area.  TPM_RC_SENSITIVE: what was wrapped is not a sensitive area.  TPM_RC_HASH
    and what `templates.check_attributes` raises (parameter 2): the public area is not acceptable below this
    parent. TPM_RC_BINDING: the areas do not belong together.
    """
    # Input Validation
    tpm.objects.check_room()
    if not cmd.in_private:
        raise TpmError(TPM_RC_SIZE).parameter(1)
    parent = _parent(tpm, cmd.parent_handle)
    public = cmd.in_public
    name = public_name(public)
    if not name:
        raise TpmError(TPM_RC_HASH).parameter(2)
    try:
        sensitive = wrapping.unprotect(parent, name, cmd.in_private)
        if len(sensitive.seed_value) > hashes.size(public.name_alg):
            raise TpmError(TPM_RC_KEY_SIZE)
    except TpmError as error:
        raise error.parameter(1) from None
    try:
        templates.check_attributes(public, parent)
    except TpmError as error:
        raise error.parameter(2) from None
    found = Object(public, sensitive, parent.hierarchy, name=name, st_clear=parent.st_clear,
                   qualified_name=qualified_name(parent.qualified_name, public.name_alg, name))
    # What a fixedTPM parent wrapped, this TPM made or checked at its import.
    if not parent.attributes & TPMA_OBJECT_FIXEDTPM:
        _check_areas(found)
        templates.check_binding(found)
    elif public.type == TPM_ALG_RSA:
        templates.check_binding(found)

    # Internal Data Update
    handle = tpm.objects.add(found)

    # Command Output
    return LoadResponse(handle, name)


def _check_areas(found: Object) -> None:
    """Check what a private area from elsewhere, or none, says about the public area; names the parameter."""
    sensitive = found.sensitive
    if sensitive is None or found.public.type == TPM_ALG_RSA:
        try:
            templates.check_public_key(found.public)
        except TpmError as error:
            raise error.parameter(2) from None
    if sensitive is not None:
        try:
            templates.check_sensitive(found.public, sensitive)
        except TpmError as error:
            raise error.parameter(1) from None


@handles
def load_external(tpm: Tpm, cmd: LoadExternal) -> LoadExternalResponse:
    """An object that no parent protects is loaded: a public area, or both areas in the clear.  Part 3, 12.3.

    TPM_RC_OBJECT_MEMORY: no transient handle is free.  TPM_RC_HIERARCHY (parameter 3): the hierarchy is
    disabled, or not TPM_RH_NULL although there is a sensitive area.  TPM_RC_ATTRIBUTES (parameter 2):
    fixedTPM, fixedParent or restricted is SET although there is a sensitive area, or as for Load.
    TPM_RC_KEY, TPM_RC_ECC_POINT, TPM_RC_VALUE (parameter 2): not a public key.  TPM_RC_TYPE, TPM_RC_SIZE,
    TPM_RC_KEY_SIZE (parameter 1): not a sensitive area for this public area.  TPM_RC_BINDING: the areas do
    not belong together.
    """
    # Input Validation
    tpm.objects.check_room()
    public, sensitive, hierarchy = cmd.in_public, cmd.in_private, cmd.hierarchy
    if not tpm.hierarchies.enabled(hierarchy) or (sensitive is not None and hierarchy != TPM_RH_NULL):
        raise TpmError(TPM_RC_HIERARCHY).parameter(3)
    try:
        if sensitive is None or public.name_alg == TPM_ALG_NULL:
            if sensitive is not None and public.object_attributes & _NOT_EXTERNAL:
                raise TpmError(TPM_RC_ATTRIBUTES)
            templates.check_scheme(public, None)
        else:
            _check_full(public.object_attributes, sensitive, hashes.size(public.name_alg))
            templates.check_attributes(public, None)
    except TpmError as error:
        raise error.parameter(2) from None
    name = public_name(public)
    found = Object(public, sensitive, hierarchy, name=name, qualified_name=name, external=True)
    _check_areas(found)
    if sensitive is not None:
        templates.check_binding(found)

    # Internal Data Update
    handle = tpm.objects.add(found)

    # Command Output
    return LoadExternalResponse(handle, name)


def _check_full(attributes: int, sensitive: TPMT_SENSITIVE, digest_size: int) -> None:
    """Check what is asked only of an external object with both areas and a nameAlg."""
    if attributes & _NOT_EXTERNAL:
        raise TpmError(TPM_RC_ATTRIBUTES)
    if len(sensitive.seed_value) > digest_size:
        raise TpmError(TPM_RC_KEY_SIZE).parameter(1)


@handles
def read_public(tpm: Tpm, cmd: ReadPublic) -> ReadPublicResponse:
    """The public area, Name and Qualified Name of an object are returned.  Part 3, 12.4.

    TPM_RC_SEQUENCE: the handle is that of a sequence.
    """
    # Input Validation
    found = tpm.objects.loaded(cmd.object_handle)
    if found is None:
        raise TpmError(TPM_RC_SEQUENCE)

    # Command Output
    return ReadPublicResponse(found.public, found.name, found.qualified_name)


@handles
def unseal(tpm: Tpm, cmd: Unseal) -> UnsealResponse:
    """The data of a sealed data object are returned.  Part 3, 12.7.

    TPM_RC_TYPE (handle 1): not a keyed hash.  TPM_RC_ATTRIBUTES (handle 1): a key, not data.
    """
    # Input Validation
    found = tpm.objects.loaded(cmd.item_handle)
    if found is None or found.public.type != TPM_ALG_KEYEDHASH:
        raise TpmError(TPM_RC_TYPE).handle(1)
    if found.attributes & _NOT_SEALED:
        raise TpmError(TPM_RC_ATTRIBUTES).handle(1)

    # Command Output
    assert found.sensitive is not None, "a public-only object has no authorization"
    return UnsealResponse(found.sensitive.sensitive)


@handles
def object_change_auth(tpm: Tpm, cmd: ObjectChangeAuth) -> ObjectChangeAuthResponse:
    """The object is returned, wrapped with a new authValue; the loaded one is as before.  Part 3, 12.8.

    TPM_RC_TYPE (handle 1): a sequence; (handle 2): not the parent of the object.  TPM_RC_SIZE (parameter 1):
    the authValue is longer than a digest of nameAlg.
    """
    # Input Validation
    found = tpm.objects.loaded(cmd.object_handle)
    if found is None:
        raise TpmError(TPM_RC_TYPE).handle(1)
    public = found.public
    try:
        templates.check_auth_size(cmd.new_auth, public)
    except TpmError as error:
        raise error.parameter(1) from None
    parent = tpm.objects.loaded(cmd.parent_handle)
    if (parent is None or not parent.is_parent
            or found.qualified_name != qualified_name(parent.qualified_name, public.name_alg, found.name)):
        raise TpmError(TPM_RC_TYPE).handle(2)

    # Command Output
    old = found.sensitive
    assert old is not None, "a public-only object has no authorization"
    sensitive = TPMT_SENSITIVE(old.sensitive_type, cmd.new_auth.rstrip(b"\0"), old.seed_value, old.sensitive)
    private = wrapping.protect(parent, found.name, public.name_alg, sensitive, tpm.random)
    return ObjectChangeAuthResponse(private)
