"""TPM2_CreatePrimary (Part 3, 24.1)."""

from __future__ import annotations

from hwtpm.tpm2 import creation, templates
from hwtpm.tpm2.context import COMMANDS, Memory, Tpm, handles
from hwtpm.tpm2.requests.hierarchy import CreatePrimary, CreatePrimaryResponse
from hwtpm.tpm2.state.objects import Answer, Object
from hwtpm.tpm2.types.algorithms import TPMS_SENSITIVE_CREATE
from hwtpm.tpm2.types.objects import TPMT_PUBLIC


@handles
def create_primary(tpm: Tpm, cmd: CreatePrimary) -> CreatePrimaryResponse:
    """A primary object is loaded, derived from the hierarchy's seed and the template.  Part 3, 24.1.

    TPM_RC_OBJECT_MEMORY: no transient handle is free.  TPM_RC_ATTRIBUTES, TPM_RC_SCHEME, TPM_RC_SYMMETRIC,
    TPM_RC_KDF, TPM_RC_HASH, TPM_RC_SIZE (parameter 2): the template is not acceptable.  TPM_RC_SIZE
    (parameter 1): the authValue is longer than a digest of nameAlg.  TPM_RC_RANGE, TPM_RC_SIZE,
    TPM_RC_KEY_SIZE: the exponent or the data do not suit the template.  TPM_RC_CANCELED.
    """
    # Input Validation
    tpm.objects.check_room()
    template, given = cmd.in_public, cmd.in_sensitive
    hierarchy = cmd.primary_handle
    templates.check_request(template, None, given)
    made = make_primary(tpm, hierarchy, template, given)

    # Internal Data Update
    handle = tpm.objects.add(made)

    # Command Output
    public = made.public
    data, digest = creation.creation_data(tpm, hierarchy, public.name_alg, cmd.creation_pcr, cmd.outside_info)
    ticket = creation.creation_ticket(tpm, hierarchy, made.name, digest)
    return CreatePrimaryResponse(handle, public, data, digest, ticket, made.name)


def make_primary(tpm: Tpm, hierarchy: int, template: TPMT_PUBLIC, given: TPMS_SENSITIVE_CREATE) -> Object:
    """Return the primary object of a template that `templates.check_creation` has passed; it is not loaded.

    Raises what `creation.create_primary` does.
    """
    made = creation.create_primary(tpm, hierarchy, template, given.data)
    return made.with_auth(given.user_auth.rstrip(b"\0"))


def _key(tpm: Tpm, hierarchy: int, parameters: bytes) -> tuple[object, ...]:
    """Return all that the answer to a command without a selection of PCRs depends on."""
    return parameters, hierarchy, tpm.locality, tpm.hierarchies.secrets(hierarchy)


def _recall(tpm: Tpm, area: tuple[int, ...], parameters: bytes) -> tuple[bytes, bytes] | None:
    answer = tpm.objects.answers.get(_key(tpm, area[0], parameters))
    if answer is None:
        return None
    return tpm.objects.add(answer.made).to_bytes(4, "big"), answer.parameters


def _keep(tpm: Tpm, cmd: CreatePrimary, parameters: bytes, response: CreatePrimaryResponse,
          answer: bytes) -> None:
    # A caller's secret stays here no longer than the object that it is for, and a primary that is made once
    # shall not pay for those that are made again and again.
    given = cmd.in_sensitive
    if given.user_auth or given.data or cmd.creation_pcr or not tpm.objects.repeated:
        return
    made = tpm.objects.loaded(response.object_handle)
    assert made is not None
    tpm.objects.answers.put(_key(tpm, cmd.primary_handle, parameters), Answer(made, answer))


COMMANDS[CreatePrimary.CC].memory = Memory(_recall, _keep)
