#!/bin/sh
# What runs in a guest with a TPM at 0xfed40000, whose family is the argument: the manager seals to that TPM through
# its registers, once the kernel's own driver has let go of it; a run is killed, the next one reads what that one has
# written, and the kernel takes the TPM back afterwards.
set -u
state=/root/state
mkdir -p "$state"
echo "cusetpm state 1" >"$state/format"
printf 'chip = "%s"\ndriver = "tis:/dev/mem"\n' "$1" >"$state/manager.toml"

manager() {
    python -m cusetpm run -v --front-end socket --state-dir "$state" -- "$@" 2>/run/errors
    echo "status $?"
    sed -n '/tis:/p; s/.*, \([0-9]* chip commands\).*/\1/p' /run/errors
}

kernel() {
    echo "$device" >"$drivers/$1"
    echo "after $1:" "$(cat /sys/class/tpm/*/tpm_version_major 2>/run/errors || echo none)"
}

device=$(readlink -f /sys/class/tpm/tpm0/device)
drivers=$(readlink -f "$device/driver")
device=${device##*/}
manager true
kernel unbind
python "$(dirname "$0")/tis_program.py" "$1"
manager sh -c 'tpm2_nvdefine -Q 0x1500001 -s 4 && printf kept | tpm2_nvwrite 0x1500001 -i - && echo written && kill -9 $PPID'
manager sh -c 'tpm2_nvread 0x1500001 && echo'
kernel bind
