"""Measurement lists: IMA's and the firmware's, what they say, and whether a TPM's PCRs agree.

Everything here works on octets and values, and reads no file.
"""

from __future__ import annotations


class BadLog(Exception):
    """The octets are no measurement list; the message says where and why."""


class DoesNotFit(Exception):
    """A list disagrees with itself, with PCRs, or with a quote; the message says where."""
