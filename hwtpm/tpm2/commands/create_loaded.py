"""TPM2_CreateLoaded (Part 3, 12.9; Part 1, 25)."""

from __future__ import annotations

from hwtpm.errors import TpmError
from hwtpm.tpm2 import algorithms, creation, templates, wrapping
from hwtpm.tpm2.commands.primary import make_primary
from hwtpm.tpm2.context import Tpm, handles
from hwtpm.tpm2.requests.object import CreateLoaded, CreateLoadedResponse
from hwtpm.tpm2.state.objects import Object, public_name, qualified_name
from hwtpm.tpm2.types.algorithms import TPMS_DERIVE, TPMS_SENSITIVE_CREATE
from hwtpm.tpm2.types.attributes import TPMA_OBJECT_SENSITIVEDATAORIGIN
from hwtpm.tpm2.types.constants import TPM_ALG_RSA, TPM_RC_ATTRIBUTES, TPM_RC_TYPE
from hwtpm.tpm2.types.handles import TPM_HT_PERMANENT
from hwtpm.tpm2.types.objects import TPMT_PUBLIC, TPMT_SENSITIVE, TPMT_TEMPLATE_DERIVE
from hwtpm.wire import decode


@handles
def create_loaded(tpm: Tpm, cmd: CreateLoaded) -> CreateLoadedResponse:
    """A primary, ordinary or derived object is made, as the parent says, and loaded.  Part 3, 12.9.

    TPM_RC_TYPE (handle 1): neither a Primary Seed nor a parent of either kind.  TPM_RC_OBJECT_MEMORY: no
    transient handle is free.  Parameter 2: the template cannot be decoded, is not acceptable as for Create
    and CreatePrimary, or is of an RSA key to derive (TPM_RC_TYPE).  TPM_RC_SIZE (parameter 1): the authValue
    is longer than a digest of nameAlg.  TPM_RC_ATTRIBUTES: sensitiveDataOrigin, firmwareLimited or svnLimited
    is SET in a derived object.  TPM_RC_SIZE, TPM_RC_INSUFFICIENT: the data are no label and context.
    TPM_RC_RANGE, TPM_RC_SIZE, TPM_RC_KEY_SIZE: the exponent or the data do not suit the template.
    TPM_RC_CANCELED.
    """
    # Input Validation
    parent: Object | None = None
    if cmd.parent_handle >> 24 != TPM_HT_PERMANENT:
        parent = tpm.objects.loaded(cmd.parent_handle)
        if parent is None or not (parent.is_parent or parent.is_derivation_parent):
            raise TpmError(TPM_RC_TYPE).handle(1)
    tpm.objects.check_room()
    given = cmd.in_sensitive
    private = b""
    if parent is None:
        template = _template(tpm, cmd, None, given)
        made = make_primary(tpm, cmd.parent_handle, template, given)
    elif parent.is_derivation_parent:
        made = _derived(tpm, cmd, parent, given)
    else:
        template = _template(tpm, cmd, parent, given)
        made = _below(parent, *creation.create(template, given, creation.ordinary(tpm)))
        assert made.sensitive is not None
        private = wrapping.protect(parent, made.name, made.public.name_alg, made.sensitive, tpm.random)

    # Internal Data Update
    handle = tpm.objects.add(made)

    # Command Output
    return CreateLoadedResponse(handle, private, made.public, made.name)


def _below(parent: Object, public: TPMT_PUBLIC, sensitive: TPMT_SENSITIVE) -> Object:
    name = public_name(public)
    return Object(public, sensitive, parent.hierarchy, name=name, st_clear=parent.st_clear,
                  qualified_name=qualified_name(parent.qualified_name, public.name_alg, name))


def _template(tpm: Tpm, cmd: CreateLoaded, parent: Object | None,
              given: TPMS_SENSITIVE_CREATE) -> TPMT_PUBLIC:
    """Return the template of a primary (no *parent*) or ordinary object."""
    try:
        template = decode(TPMT_PUBLIC, cmd.in_public)
        algorithms.check_structure(tpm, template)
    except TpmError as error:
        raise error.parameter(2) from None
    _check_auth(given, template)
    try:
        templates.check_creation(template, parent, len(given.data))
    except TpmError as error:
        raise error.parameter(2) from None
    return template


def _check_auth(given: TPMS_SENSITIVE_CREATE, template: TPMT_PUBLIC) -> None:
    try:
        templates.check_auth_size(given.user_auth, template)
    except TpmError as error:
        raise error.parameter(1) from None


def _derived(tpm: Tpm, cmd: CreateLoaded, parent: Object, given: TPMS_SENSITIVE_CREATE) -> Object:
    """Return the object that *parent* gives for the label and context of the command.

    Those in the template go before those in the sensitive data, each by itself (Part 1, 25.2).
    """
    try:
        found = decode(TPMT_TEMPLATE_DERIVE, cmd.in_public)
        algorithms.check_structure(tpm, found)
    except TpmError as error:
        raise error.parameter(2) from None
    template = TPMT_PUBLIC(found.type, found.name_alg, found.object_attributes, found.auth_policy,
                           found.parameters, b"")
    _check_auth(given, template)
    if template.type == TPM_ALG_RSA:
        raise TpmError(TPM_RC_TYPE).parameter(2)
    if template.object_attributes & (TPMA_OBJECT_SENSITIVEDATAORIGIN | templates.LIMITED):
        raise TpmError(TPM_RC_ATTRIBUTES)
    try:
        templates.check_attributes(template, parent)
    except TpmError as error:
        raise error.parameter(2) from None
    other = decode(TPMS_DERIVE, given.data) if given.data else TPMS_DERIVE(b"", b"")
    label, context = found.unique.label or other.label, found.unique.context or other.context
    bits = creation.DerivedBits(parent, label, context)
    return _below(parent, *creation.derive(template, given.user_auth, bits))
