"""TPM 1.2 (TPM Main Specification, level 2, revision 116)."""
