"""The cryptography of a TPM: plain functions, octets in and octets out.

This package is the only importer of `cryptography` and gmpy2.  Algorithms and curves are named by
their TCG identifiers (Part 2, 6.3 and 6.4) as plain integers; nothing here knows a TPM structure,
a response code or a session.
"""
