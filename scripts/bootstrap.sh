# Sourced by the scripts beside it, which have set $root to the checkout.
#
# bootstrap LEVEL returns when what LEVEL needs is installed: "runtime" for running cusetpm, "dev" for
# its checks and benchmarks.  With nothing missing it starts no program and takes a few milliseconds.
# Otherwise it says on stderr what it installs: Debian packages (as root with apt-get; else it names
# them and the command), and $root/.venv with the dependencies of pyproject.toml at their newest.
# It ends the script with one clear message if that fails.  stdout stays clean.

venv=$root/.venv
# Written last: a .venv without it was interrupted, and is built again from nothing.
stamp=$venv/.cusetpm-stamp
# Names the packages that scripts/cusetpm once failed to install, so that it does not nag on every run.
without=$venv/.cusetpm-without

# PROGRAM:PACKAGE or /PATTERN:PACKAGE, and what the program or file is wanted for.
runtime_programs=(
    fusermount3:fuse3          # the FUSE front end
    tpm2_getrandom:tpm2-tools  # what people run on a TPM first
)
dev_programs=(
    swtpm:swtpm                        # the peer of the oracle tests and of scripts/bench
    swtpm_ioctl:swtpm-tools            # clients of the control channel, and so are the next three
    libvirtd:libvirt-daemon
    virsh:libvirt-clients
    '/usr/lib/*/libvirt/connection-driver/libvirt_driver_qemu.so:libvirt-daemon-driver-qemu'
    qemu-img:qemu-utils                # the disks of tests/integration/test_qemu.py
    qemu-system-x86_64:qemu-system-x86 # scripts/vm, and so are the next two
    busybox:busybox-static
    depmod:kmod
    '/usr/share/OVMF/OVMF_CODE*.fd:ovmf' # scripts/vm/run --firmware ovmf
    /usr/sbin/tcsd:trousers            # TPM 1.2's programs, and so are the next two
    tpm_version:tpm-tools
    tpm_getquote:tpm-quote-tools
    evmctl:ima-evm-utils               # the other verifier of IMA lists
    keyctl:keyutils                    # trusted keys of the kernel's
    make:make                          # the module for them: scripts/vm/run --trusted
    '/usr/lib/*/ossl-modules/tpm2.so:tpm2-openssl' # the programs of tests/integration, and so are the next
    '/usr/lib/python3/dist-packages/tpm2_pytss/__init__.py:python3-tpm2-pytss'
    tsscreateprimary:tss2
    tpm2_ptool:libtpm2-pkcs11-tools
    '/usr/lib/*/libtpm2_pkcs11.so.1:libtpm2-pkcs11-1'
    pkcs11-tool:opensc
    openssl:openssl
    podman:podman                      # tests/integration/test_container.py, and so is the next
    crun:crun
)

say() { printf 'cusetpm: %s\n' "$@" >&2; }
die() { say "$@"; exit 1; }

# Sets $want: all that decides what .venv must hold.
_read_wants() {
    local line keep=
    want=$root$'\n'
    while IFS= read -r line; do
        case $line in
            '[build-system]' | '[project]' | '[project.'*) keep=1 ;;
            '['*) keep= ;;
        esac
        [[ -z $keep ]] || want+=$line$'\n'
    done <"$root/pyproject.toml"
}

# Reads the stamp into $have_level, $have_python and $have; succeeds if .venv is good for LEVEL.
_venv_is_ready() {
    have_level='' have_python='' have=''
    [[ -r $stamp ]] || return 1
    { read -r have_level; read -r have_python; IFS= read -r -d '' have; } <"$stamp" || true
    # After an upgrade of the system's Python, the name that .venv links to means another file.
    [[ -x $venv/bin/python && $venv/bin/python -ef $have_python && $have == "$want" ]] &&
        [[ $have_level == dev || $1 == runtime ]]
}

# Sets $missing to the packages of the arguments, as above, whose program or file is not there.
_find_missing() {
    local pair PATH=$PATH:/usr/sbin:/sbin
    missing=()
    for pair; do
        if [[ $pair == /* ]]; then compgen -G "${pair%%:*}"; else type -P "${pair%%:*}"; fi >/dev/null ||
            missing+=("${pair#*:}")
    done
}

# Runs a command silently; shows its output if it fails.
_quietly() {
    local output
    output=$("$@" 2>&1 </dev/null) || { printf '%s\n' "$output" >&2; return 1; }
}

_apt_install() {
    apt-get install -qq --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"
}

# Installs Debian packages, or says how to and fails.
_install_packages() {
    if ((EUID == 0)) && type -P apt-get >/dev/null; then
        say "installing Debian packages: $*"
        local -x DEBIAN_FRONTEND=noninteractive
        # A fresh machine has no package lists, and an old one has lists of what is gone.
        _apt_install "$@" >/dev/null 2>&1 </dev/null && return
        _quietly apt-get update -qq -o Acquire::Retries=2 && _quietly _apt_install "$@" && return
        say "installing them failed; try: apt-get update && apt-get install $*"
    elif type -P apt-get >/dev/null; then
        say "missing Debian packages: $*" "install them with: sudo apt-get install $*"
    else
        say "missing packages, by their Debian names: $*"
    fi
    return 1
}

# Sets $python to the first interpreter on PATH that is new enough.
_find_python() {
    local name found
    old_python=
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        python=$(type -P "$name") || continue
        found=$("$python" -I -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
        if [[ $found == 3.* ]] && ((${found#3.} >= 11)); then
            python_version=$found
            return
        fi
        old_python=" ($python is $found)"
    done
    return 1
}

# Installs what building .venv takes: a Python with venv and headers, and a compiler, because
# pyfuse3 is published as source only.
_install_build_needs() {
    if ! _find_python; then
        # Where there is an old one, it is the distribution that is old, or the user's choice.
        [[ -n $old_python ]] || _install_packages python3 python3-venv python3-dev || exit 1
        _find_python || die "Python 3.11 or newer is needed, and there is none on PATH$old_python"
    fi
    _find_missing gcc:gcc pkg-config:pkg-config
    pkg-config --exists fuse3 2>/dev/null || missing+=(libfuse3-dev)
    "$python" -I -c 'import ensurepip, venv' 2>/dev/null || missing+=("python$python_version-venv")
    "$python" -I -c 'import os, sysconfig as s; os.stat(s.get_path("include") + "/Python.h")' 2>/dev/null ||
        missing+=("python$python_version-dev")
    if ((${#missing[@]})); then
        _install_packages "${missing[@]}" || exit 1
    fi
}

_install_venv() {
    local level=$1 lock target=$root
    [[ -w $root && (! -e $venv || -w $venv) ]] || die "cannot write $venv; run this once as the owner of $root"
    exec {lock}<"$root"
    flock -n "$lock" || { say "waiting for another installation into $venv"; flock "$lock"; }
    if ! _venv_is_ready "$level"; then
        _install_build_needs
        say "installing Python packages into $venv"
        if [[ -z $have || ! $venv/bin/python -ef $have_python ]]; then
            # -I keeps a PYTHONPATH of the user's out of it.
            _quietly "$python" -I -m venv --clear "$venv" || die "cannot create $venv"
        fi
        rm -f "$stamp"
        [[ $have_level != dev ]] || level=dev
        [[ $level != dev ]] || target+='[dev]'
        _quietly "$venv/bin/python" -I -m pip install --quiet --disable-pip-version-check --no-input \
            --upgrade --upgrade-strategy eager --editable "$target" ||
            die "cannot install the Python packages into $venv"
        have_python=$(readlink -f "$venv/bin/python")
        printf '%s\n%s\n%s' "$level" "$have_python" "$want" >"$stamp.new"
        mv "$stamp.new" "$stamp"
    fi
    exec {lock}<&-
}

bootstrap() {
    local level=$1 want have have_level have_python missing python python_version old_python given_up=
    _read_wants
    _venv_is_ready "$level" || _install_venv "$level"
    if [[ $level == dev ]]; then
        _find_missing "${runtime_programs[@]}" "${dev_programs[@]}"
        ((${#missing[@]} == 0)) || _install_packages "${missing[@]}" || exit 1
        return
    fi
    _find_missing "${runtime_programs[@]}"
    ((${#missing[@]})) || return 0
    # cusetpm can do without these (its doctor says what that costs), so failing is no reason to stop.
    [[ ! -r $without ]] || IFS= read -r given_up <"$without" || true
    if [[ $given_up != "${missing[*]}" ]] && ! _install_packages "${missing[@]}"; then
        printf '%s\n' "${missing[*]}" 2>/dev/null >"$without" || true
    fi
}
