#!/usr/bin/env bash
# tools.sh RUN...: uses a TPM as its owner would, with tpm2-tools, and prints what it found.
#
# RUN is a command line that takes "-- COMMAND" and gives COMMAND a TPM, the same one each time, as
# cusetpm run --state-dir S does.  Works in the current directory.  Fails at the first surprise.
set -euo pipefail

printf secret >secret.bin

"$@" -- bash -euc '
    extend() { tpm2_pcrextend 16:sha256=$(printf %064d 1); }

    # Random numbers and a PCR.
    tpm2_getrandom --hex 16 | grep -Eqx "[0-9a-f]{32}"
    extend
    echo "pcr $(tpm2_pcrread sha256:16 | sed -n "s/.*16: *0x//p")"

    # A secret that only this value of the PCR opens.
    tpm2_createpolicy -Q --policy-pcr -l sha256:16 -L pcr.pol
    tpm2_createprimary -Q -C o -c p.ctx
    tpm2_create -Q -C p.ctx -u k.pub -r k.priv -i secret.bin -L pcr.pol
    tpm2_load -Q -C p.ctx -u k.pub -r k.priv -c k.ctx
    echo "unsealed $(tpm2_unseal -c k.ctx -p pcr:sha256:16)"
    extend
    if tpm2_unseal -c k.ctx -p pcr:sha256:16 2>refusal; then exit 1; fi
    grep -qi "policy" refusal
    echo refused

    # Data that the next run must find.
    tpm2_nvdefine -Q 0x1500016 -C o -s 6 -a "ownerread|ownerwrite"
    tpm2_nvwrite -Q 0x1500016 -C o -i secret.bin
'

"$@" -- bash -euc 'echo "kept $(tpm2_nvread 0x1500016 -C o)"'
