#!/usr/bin/env bash
# libvirt.sh DIRECTORY CUSETPM: has libvirt start guests whose `swtpm` is cusetpm, save them, restore them and reset them.
#
# Runs as root in a mount namespace of its own (unshare -m), in which what libvirt writes to is in memory, and so is the
# user that its package would make.  DIRECTORY gets `calls`, the command lines of swtpm, and the guests' state directories.
set -euo pipefail
directory=$1 cusetpm=$2
secret=aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee

mkdir -p /etc/libvirt /run/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt /var/log/swtpm \
    /var/lib/swtpm-localca
for place in /etc/libvirt /run/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt /var/log/swtpm \
    /var/lib/swtpm-localca; do
    mount -t tmpfs libvirt "$place"
done
for file in passwd group; do
    cp "/etc/$file" "$directory/$file"
    mount --bind "$directory/$file" "/etc/$file"
done
for group in kvm libvirt-qemu; do
    getent group $group >/dev/null || echo "$group:x:64055:" >>/etc/group
done
getent passwd libvirt-qemu >/dev/null || echo 'libvirt-qemu:x:64055:64055::/nonexistent:/bin/false' >>/etc/passwd
cat >/etc/libvirt/qemu.conf <<END
user = "root"
group = "root"
swtpm_user = "root"
swtpm_group = "root"
security_driver = "none"
stdio_handler = "file"
namespaces = []
cgroup_controllers = []
END
cat >/etc/libvirt/libvirtd.conf <<END
auth_unix_rw = "none"
log_outputs = "3:file:$directory/libvirtd.log"
END

mkdir "$directory/bin"
cat >"$directory/bin/swtpm" <<END
#!/bin/sh
echo "\$@" >>"$directory/calls"
exec "$cusetpm" swtpm "\$@"
END
chmod +x "$directory/bin/swtpm"

PATH=$directory/bin:$PATH libvirtd --daemon --pid-file "$directory/pid" 2>"$directory/libvirtd.log"
trap 'kill "$(<"$directory/pid")"' EXIT
# The daemon answers a little after it has gone to the background.
for _ in {1..300}; do
    virsh -q -c qemu:///system uri >/dev/null 2>&1 && break
    [[ -e $directory/pid ]] || { cat "$directory/libvirtd.log" >&2; exit 1; }
    sleep 0.1
done
v() { virsh -q -c qemu:///system "$@"; }

v secret-define /dev/stdin <<END
<secret ephemeral='no' private='yes'><uuid>$secret</uuid><usage type='vtpm'><name>web</name></usage></secret>
END
printf 'a passphrase' | v secret-set-value $secret --file /dev/stdin --plain

guest() {
    v define /dev/stdin <<END
<domain type='qemu'>
  <name>$1</name>
  <memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices>
    <emulator>$(type -P qemu-system-x86_64)</emulator>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    <tpm model='$2'><backend type='emulator' version='$3'>$4</backend></tpm>
  </devices>
</domain>
END
}
guest plain tpm-crb 2.0 ''
guest locked tpm-tis 2.0 "<encryption secret='$secret'/>"
guest old tpm-tis 1.2 ''

for name in plain locked old; do
    v start $name
    v save $name "$directory/$name.saved"
    v restore "$directory/$name.saved"
    v reset $name
    echo "$name $(v domstate $name)"
    v destroy $name
    cp -a "/var/lib/libvirt/swtpm/$(v domuuid $name)"/tpm* "$directory/$name"
done
