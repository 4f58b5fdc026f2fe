"""swtpm's protocols, for the programs that speak them: QEMU, libvirt, swtpm_ioctl, swtpm_setup, tpm2-tss.

    abi        numbers and structures
    blob       what is around a state blob
    control    `Control`: every control command as a method, with values for arguments and results, and all
               rules about power, locality and results; on top of a `Machine` (`cusetpm.daemon.Device` is one)
    protocol   `ControlChannel`: octets of a socket to calls of a `Control` and back
    data       `DataChannel`: octets of a socket to commands for the TPM and back

Whoever has another way for control commands, as a CUSE device has its ioctls, decodes its structures with
``abi.structures(abi.HOST_ENDIAN)`` and calls the same `Control`; TpmError has the result (`ptm_res`) of a
command that is refused.  Commands for the TPM go through `Control.execute`, which knows locality and power.
"""
