"""An old copy of one vTPM's state, which somebody has put back, is its state if the administrator says so."""

from __future__ import annotations

import logging
from contextlib import closing

from cusetpm.daemon import System
from cusetpm.records import accepted
from hwtpm.errors import StateError
from hwtpm.slots import Slots
from manager.book import Moved
from manager.model import MOVED

log = logging.getLogger(__name__)


def accept(system: System, name: str) -> str:
    """The old copy is the state of the vTPM *name* of the released *system*, durably; return what it is.

    StateError, one line for people, if it runs, has moved, or if nothing old is there or nothing that can be
    opened; nothing has changed then.
    """
    uuid, path = system.stopped(name)
    with closing(Slots(path)) as slots:
        with system.manager.change() as change:
            vtpm = change.vtpm(uuid)
            if vtpm.flags & MOVED:
                raise Moved(uuid)
            found = accepted(slots, vtpm.hash_key, uuid)
            if found is None:
                raise StateError(f"vTPM {name}: its state is the newest that there was; there is nothing to "
                                 f"accept")
            record, octets = found
            told = f"vTPM {name}: an old copy of its state was put back; it is save {record.number} now"
            log.warning("%s: accepted by the administrator: %s", path, told)
            vtpm.hash_key = record.kept
            change.put_vtpm(uuid, vtpm)
        # The other slot keeps the old copy: if this fails, it can be accepted once more.
        slots.write(record.slot, octets)
    return told
