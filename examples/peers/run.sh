#!/bin/sh
# Harrier beside its peers, each on the same model file and the same frames, in one interleaved run.
# Makes its own virtual environment (MediaPipe 0.10.14 wants Python 3.10 to 3.12 and an older numpy).
#   examples/peers/run.sh              faces; with HARRIER_SHARED set also YOLOX-Nano; then decoding and NMS alone
set -eu
cd "$(dirname "$0")"
venv=${HARRIER_PEERS_VENV:-.venv}
if [ ! -x "$venv/bin/python" ]; then
    for candidate in ${PYTHON:-python3.11 python3.12 python3.10 python3}; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; then
            "$candidate" -m venv "$venv"
            break
        fi
    done
    [ -x "$venv/bin/python" ] || { echo "peers: no Python 3.10 to 3.12 is installed" >&2; exit 1; }
fi
if [ ! -e "$venv/.ready" ]; then
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        mediapipe==0.10.14 'numpy<2' onnxruntime==1.23.2 ai-edge-litert==2.3.0 msgspec==0.22.0 \
        supervision==0.31.2 edgefirst-decoder==0.38.0
    # MediaPipe brings OpenCV itself, so Harrier comes without its own
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps -e ../..
    touch "$venv/.ready"
fi
"$venv/bin/python" frames.py "$@"
"$venv/bin/python" decoding.py
