#!/usr/bin/env bash
# managed.sh PRIMARIES ROUNDS: uses the resource manager's device as several programs do that know nothing of
# each other, with tpm2-tools; prints what it found.  TPM2TOOLS_TCTI names the device.  Works in the current
# directory, and fails at the first surprise.
set -euo pipefail
primaries=$1 rounds=$2

# Nobody flushes anything: each tool's objects go with it.
for ((i = 1; i <= primaries; i++)); do
    tpm2_createprimary -Q -C o -G ecc -c "primary$i.ctx"
done
[[ -z $(tpm2_getcap handles-transient) ]]
echo "created $primaries primaries"

# A context loads again, wherever it was saved.
tpm2_readpublic -Q -c primary1.ctx -n 1.name
tpm2_readpublic -Q -c "primary$primaries.ctx" -n last.name
cmp 1.name last.name
echo "loaded contexts"

# Programs side by side, each with objects and sessions that it saves and loads in turns.
printf secret >secret.bin
user() {
    mkdir "$1"
    cd "$1"
    tpm2_createprimary -Q -C o -G ecc -c primary.ctx
    for ((round = 0; round < rounds; round++)); do
        tpm2_startauthsession -Q -S trial.ctx
        tpm2_policypcr -Q -S trial.ctx -l sha256:16 -L pcr.policy
        tpm2_flushcontext -Q trial.ctx
        tpm2_create -Q -C primary.ctx -u key.pub -r key.priv -i ../secret.bin -L pcr.policy
        tpm2_load -Q -C primary.ctx -u key.pub -r key.priv -c key.ctx
        tpm2_startauthsession -Q --policy-session -S session.ctx
        tpm2_policypcr -Q -S session.ctx -l sha256:16
        [[ $(tpm2_unseal -c key.ctx -p session:session.ctx) == secret ]]
        tpm2_flushcontext -Q session.ctx
    done
}
pids=()
for name in one two; do
    user "$name" &
    pids+=($!)
done
for pid in "${pids[@]}"; do
    wait "$pid"
done
echo "unsealed side by side"

# A session that was saved and forgotten is one that anybody can flush.
tpm2_startauthsession -Q -S forgotten.ctx
[[ $(tpm2_getcap handles-saved-session) == "- 0x2000000" ]]
tpm2_flushcontext -Q -s
[[ -z $(tpm2_getcap handles-saved-session)$(tpm2_getcap handles-loaded-session) ]]
echo "nothing left"
