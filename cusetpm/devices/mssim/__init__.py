"""The protocol of Microsoft's TPM 2.0 simulator, for tpm2-tss' `mssim:` TCTI and IBM's TSS.

Commands go to one TCP port, signals of the platform to the next.
"""
