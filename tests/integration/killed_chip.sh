#!/usr/bin/env bash
# killed_chip.sh RUN...: what becomes of a chip of the kernel's when the process behind it is killed.
#
# RUN is a command line that takes "-- COMMAND" and shows COMMAND a TPM as the kernel's /dev/tpm0.  Works in the current
# directory, as root, prints what it found, and fails at the first surprise.
set -euo pipefail

# COMMAND outlives it, with both devices open.
mkfifo opened killed
"$@" -- bash -euc '
    exec 3<>/dev/tpm0 4<>/dev/tpmrm0
    echo $PPID >opened
    read -r _ <killed
    random="\x80\x01\x00\x00\x00\x0c\x00\x00\x01\x7b\x00\x08"
    for fd in 3 4; do
        if printf "$random" >&$fd; then exit 1; fi
    done
    echo done >opened
' 2>refusals &
read -r pid <opened
kill -9 "$pid"
# The process is gone when its parent has waited for it, and the chip with its files.
! wait $!
ls -d /dev/tpm* /sys/class/tpm/* 2>/dev/null && exit 1
echo go >killed
read -r _ <opened
echo "$(grep -c "Broken pipe" refusals) open files are refused"

# The next chip has the same number, and mends what is left.
"$@" -- bash -euc 'echo "then $CUSETPM_DEVICE answers $(tpm2_getrandom --hex 8 | wc -c)"'
