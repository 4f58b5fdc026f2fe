"""How messages look to a user."""

from __future__ import annotations

import logging


class OneLine(logging.Formatter):
    """Leaves tracebacks to those who ask for them."""

    def format(self, record: logging.LogRecord) -> str:
        record.message = record.getMessage()
        return self.formatMessage(record)
