"""Miscellaneous management functions (Part 3, 26)."""

from __future__ import annotations

from hwtpm.tpm2.context import COMMANDS, Tpm, handles
from hwtpm.tpm2.requests.command import Empty
from hwtpm.tpm2.requests.management import PPCommands, SetAlgorithmSet
from hwtpm.tpm2.state.platform import left_out


@handles
def pp_commands(tpm: Tpm, cmd: PPCommands) -> Empty:
    """Other commands need physical presence besides Platform Authorization.  Part 3, 26.2.

    Commands that are not implemented or cannot be gated are ignored.
    """
    # Internal Data Update
    tpm.platform.gate(COMMANDS.keys() & set(cmd.set_list), cmd.clear_list)
    # Command Output
    return Empty()


@handles
def set_algorithm_set(tpm: Tpm, cmd: SetAlgorithmSet) -> Empty:
    """The algorithms that the set leaves out are refused from now on, as if not implemented.  Part 3, 26.3.

    What is there stays and can be used; only PCR banks of such an algorithm are gone after the next power-on.
    TPM_RC_PCR: no bank would have the PCR of the H-CRTM, or none that of the D-RTM.
    """
    # Input Validation
    allocation = tpm.pcrs.plan_without(left_out(cmd.algorithm_set))
    # Internal Data Update
    tpm.platform.select_algorithms(cmd.algorithm_set)
    tpm.objects.forget()
    tpm.pcrs.leave_out(allocation)
    if tpm.power.saved:
        tpm.power.nullify()  # The next Startup cannot be one of type STATE.
    # Command Output
    return Empty()
