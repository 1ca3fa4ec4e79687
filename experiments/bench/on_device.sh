#!/usr/bin/env bash
# All that a bare machine with an accelerator needs, in one line: bash experiments/bench/on_device.sh [ARGUMENT ...]
#
# Runs `python -m experiments.bench accelerator` with these arguments, prints a short table last, and writes to $OUT
# if that is set.  Packages that the machine lacks are taken from wheels in the folder .whl, if there is
# one.  Where there is a network, `bash experiments/bench/on_device.sh --fetch` fills it, for Python 3.12 on x86-64.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

lacking=(msgspec tyro docstring-parser typeguard typing-extensions)
if [ "${1:-}" = --fetch ]; then
    exec python3 -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
        --platform manylinux2014_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux_2_28_x86_64 \
        -d .whl "${lacking[@]}"
fi

export PYTHONPATH=$PWD PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
unset JAX_PLATFORMS # the processor is measured as well
if compgen -G '.whl/*.whl' >/dev/null; then
    site=$(mktemp -d)
    python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$site" .whl/*.whl &&
        export PYTHONPATH=$PWD:$site
fi
# torch and jax share the device: neither may take all of it at its start.
export XLA_PYTHON_CLIENT_PREALLOCATE=${XLA_PYTHON_CLIENT_PREALLOCATE:-false}

folder=${OUT:-accelerator} # at once, so that a program that is killed leaves there what it had found
python3 -m experiments.bench accelerator --out "$folder" "$@"
code=$?
[ ! -f "$folder/accelerator.json" ] || python3 -m experiments.bench accelerator --short "$folder/accelerator.json"
exit "$code"
