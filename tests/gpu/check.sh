#!/usr/bin/env bash
# Holds evomix's trainer on a GPU against the CPU: see README.md beside this file.
#   tests/gpu/check.sh [FOLDER-OF-WHEELS]
# PYTHON is the interpreter that has torch, transformers, peft and accelerate; nothing is installed
# into it, and nothing is fetched.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=${PYTHON:-python3}
path=$PWD
if [ $# -gt 0 ]; then
    site=$(mktemp -d)
    trap 'rm -rf "$site"' EXIT
    "$python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-compile \
        --no-cache-dir --find-links "$1" --target "$site" --requirement tests/gpu/wheels.txt
    path=$site:$path
fi
# The workspaces that make cuBLAS add up in one order, before anything can make a handle.
export CUBLAS_WORKSPACE_CONFIG=${CUBLAS_WORKSPACE_CONFIG:-:4096:8}
PYTHONPATH=$path${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false \
    HF_HUB_OFFLINE=1 "$python" -m tests.gpu.check
