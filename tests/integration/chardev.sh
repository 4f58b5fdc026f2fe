#!/usr/bin/env bash
# chardev.sh FAMILY PROGRAM...: a chip of the kernel's by swtpm's command line; PROGRAM is swtpm, or ours in its place.
#
# Works in the current directory, as root, prints what it found, and fails at the first surprise.
set -euo pipefail
family=$1; shift
kind=(); [[ $family == 1.2 ]] || kind=(--tpm2)

mkdir -p "state$family"
# swtpm has another current directory in the background.
"$@" chardev --vtpm-proxy "${kind[@]}" --tpmstate "dir=$PWD/state$family" --ctrl "type=unixio,path=$PWD/ctrl" \
    --pid "file=$PWD/pid" --log "file=$PWD/log" --daemon >told || { cat log >&2; exit 1; }
# swtpm says that it is ready before the kernel is; ours says it afterwards.
[[ $1 != swtpm ]] || until [[ -e /dev/tpm0 ]]; do sleep 0.1; done
IFS=: read -r major minor </sys/class/tpm/tpm0/dev
grep -qx "New TPM device: /dev/tpm0 (major/minor = $major/$minor)" told
echo "version $(cat /sys/class/tpm/tpm0/tpm_version_major)"

# Localities are the control channel's: 2 may reset PCR 20, and 0 may not.
if [[ $family == 2.0 ]]; then
    export TPM2TOOLS_TCTI=device:/dev/tpm0
    tpm2_pcrread sha256:20 | sed -n "s/.*20 *: 0x\(....\).*/PCR 20 is \1.../p"
    if tpm2_pcrreset 20 2>/dev/null; then exit 1; fi
    swtpm_ioctl --unix ctrl -l 2
    tpm2_pcrreset 20
    tpm2_pcrread sha256:20 | sed -n "s/.*20 *: 0x\(....\).*/PCR 20 is \1.../p"
fi

pid=$(cat pid)
swtpm_ioctl --unix ctrl -s
timeout 60 tail --pid="$pid" -f /dev/null
[[ ! -e /dev/tpm0 ]]
echo "gone"
