#!/usr/bin/env bash
# tcsd.sh [own]: starts trousers' tcsd as Debian does, which opens /dev/tpm0, uses it with tpm-tools and stops it;
# prints what it found.  With "own", it takes ownership, of a TPM without owner.  As root, on a machine of its own:
# tcsd's files and its port are those of the system.  Fails at the first surprise.
set -euo pipefail

opens() { "$@" sh -c 'exec 3<>/dev/tpm0' 2>refusal; }

stat -c "%n is a %F of %U:%G, mode %a" /dev/tpm0
# tcsd opens it as root; other packages start it as the user tss.
opens setpriv --reuid tss --regid tss --clear-groups
echo "tss opens it"

# It listens before it parts from the process that the script waits for.
/etc/init.d/trousers start >started 2>&1 || { cat started >&2; exit 1; }
# It tells of a device that is not the user's.
if grep "WARNING\|device owner" started; then exit 1; fi
pid=$(cat /run/tcsd.pid)
echo "$(tr '\0' ' ' <"/proc/$pid/cmdline")runs as $(stat -c %U "/proc/$pid")"
[[ $(readlink "/proc/$pid/fd/"*) == *"/dev/tpm0"* ]]

# Like the kernel's, the device is one program's at a time.
if opens; then exit 1; fi
grep -q "resource busy" refusal
echo "nobody else opens it"

# Its standard error begins with what is no text.
tpm_version 2>/dev/null | sed -n "s/^ *TPM Vendor ID: */vendor /p; s/^ *Chip Version: *\(1\.2\).*/version \1/p"
tpm_selftest >/dev/null
echo "tested itself"
if [[ ${1-} == own ]]; then
    tpm_takeownership -y -z
    tpm_getpubek -z 2>/dev/null | sed -n "s/^ *Key Size: */endorsement key of /p"
fi

/etc/init.d/trousers stop >&2
timeout 20 tail --pid="$pid" -f /dev/null
opens
echo "free again"
