"""Algorithm sets (TPM2_SetAlgorithmSet; Part 3, 26.3): whether a command names an algorithm that is left out.

What decodes structures is the same for every TPM of the process, so it takes every implemented algorithm.  A
TPM with a smaller set looks at what was decoded, and answers as if the algorithm were not implemented.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from hwtpm.errors import TpmError
from hwtpm.tpm2.profile import HASHES
from hwtpm.wire import Arms, Int, ListOf, Member, Wire, member_of, members, parameter_area

if TYPE_CHECKING:
    from hwtpm.tpm2.context import Tpm


def check(tpm: Tpm, request: Wire) -> None:
    """Raise the code of an unknown hash, with its parameter, if *request* names one that is left out."""
    for number, member in enumerate(parameter_area(type(request)), 1):
        try:
            _check(tpm, getattr(request, member.name), member)
        except TpmError as error:
            raise error.parameter(number) from None


def check_structure(tpm: Tpm, structure: Wire) -> None:
    """Raise as `check`, but without a parameter, for a structure that came as octets."""
    if tpm.platform.left_out:
        _check_all(tpm, structure)


def _check_all(tpm: Tpm, structure: Wire) -> None:
    for member in members(type(structure)):
        value = getattr(structure, member.name)
        if isinstance(member.spec, Arms):
            arm = member.spec.arms[getattr(structure, member.selector)]
            if arm is not None:
                _check(tpm, value, member_of(arm))
        else:
            _check(tpm, value, member)


def _check(tpm: Tpm, value: object, member: Member) -> None:
    spec = member.spec
    if isinstance(value, Wire):
        _check_all(tpm, value)
    elif isinstance(spec, ListOf):
        assert isinstance(value, list)
        element = member_of(get_args(get_args(member.type)[0])[0])
        for each in value:
            _check(tpm, each, element)
    elif isinstance(spec, Int) and value in tpm.platform.left_out and _takes_hashes(spec):
        raise TpmError(spec.rc)


def _takes_hashes(spec: Int) -> bool:
    """Tell whether a number of this type stands for a hash, rather than for a size, for instance."""
    return isinstance(spec.allowed, frozenset) and spec.allowed >= HASHES
