#!/usr/bin/env bash
# Runs on a Cloud TPU VM what is worth running on an accelerator: the device's tests, the tests of several devices, and
# the benchmark. Whoever has a Google Cloud project with TPU quota runs it from a checkout, with gcloud signed in:
#
#     ZONE=us-west4-a TYPE=v5litepod-8 VERSION=v2-alpha-tpuv5-lite experiments/benchmarks/tpu_vm.sh OUTPUT
#
# It makes a VM, copies the committed tree there, and deletes the VM at the end, whatever happens. A VM costs money from
# its creation on. The project's authors had no TPU: this script has NOT been run.
set -euo pipefail
output=${1:?usage: ZONE=... TYPE=... VERSION=... $0 OUTPUT}
: "${ZONE:?}" "${TYPE:?}" "${VERSION:?}"
name=${NAME:-cachefl-$(date +%s)}
place=(--zone="$ZONE" --quiet)
work=$(mktemp -d)

finish() {
    gcloud compute tpus tpu-vm delete "$name" "${place[@]}" || echo "delete $name by hand: it costs money" >&2
    rm -rf "$work"
}

on_vm() { gcloud compute tpus tpu-vm ssh "$name" "${place[@]}" --command="$1"; }

mkdir -p "$output"
git archive --format=tar.gz --output="$work/tree.tar.gz" HEAD
trap finish EXIT
gcloud compute tpus tpu-vm create "$name" "${place[@]}" --accelerator-type="$TYPE" --version="$VERSION"
gcloud compute tpus tpu-vm scp "$work/tree.tar.gz" "$name:tree.tar.gz" "${place[@]}"
jax=$(sed -n 's/^jax==//p' constraints.txt)
on_vm "mkdir -p cachefl && tar -xzf tree.tar.gz -C cachefl && cd cachefl && make .venv/tested &&
    .venv/bin/python -m pip install --quiet 'jax[tpu]==$jax' &&
    .venv/bin/python -c 'import jax; print(jax.devices())'"

# A TPU belongs to one process at a time, so the tests run in one.
status=0
on_vm "cd cachefl && make test-device DEVICE_PROCESSES=0 2>&1 | tee ../tests.log; exit \${PIPESTATUS[0]}" || status=1
on_vm "cd cachefl && .venv/bin/python -m pytest -q tests/federation/test_own_rows.py tests/federation/test_class_devices.py \
    2>&1 | tee ../several.log; exit \${PIPESTATUS[0]}" || status=1
on_vm "cd cachefl && .venv/bin/python -m experiments.benchmarks.accelerator --output=../benchmark" || status=1
gcloud compute tpus tpu-vm scp --recurse "$name:tests.log" "$name:several.log" "$name:benchmark" "$output" "${place[@]}" ||
    status=1
exit $status
