#!/usr/bin/env bash
# Runs the robot's half of the test suite on aarch64, emulated by qemu-user in a root of Debian arm64. No Docker needed.
#
#   sudo docker/test-arm64.sh [SUITE]             Debian trixie (the default; Python 3.13) or bookworm (3.11)
#   sudo docker/test-arm64.sh SUITE PYTEST...     other tests than the default selection
#
# Needs: apt-get install mmdebstrap qemu-user-static binfmt-support; about 2 GB, and one to two hours on two cores.
# PYTHON: an interpreter with pip (default python3). HARRIER_SHARED: the shared test material, if there is some.
# HARRIER_ARM64_CACHE: keeps root and wheels (default ~/.cache/harrier-arm64); HARRIER_ARM64_JOBS: processes (1).
# HARRIER_ARM64_LIMIT_S: after this long it is interrupted (7200). HARRIER_ARM64_LOG: gets all that pytest says.
set -euo pipefail

suite=${1:-trixie}
shift $(($# > 0))
repository=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
cache=${HARRIER_ARM64_CACHE:-$HOME/.cache/harrier-arm64}
log=${HARRIER_ARM64_LOG:-$cache/pytest-$suite.log}
extras=onnx,serial,mqtt,mavlink,zenoh,web
packages=python3,python3-venv,gcc,g++,libc6-dev,openssl,mosquitto,ca-certificates,procps

fail() {
    echo "test-arm64.sh: $1" >&2
    exit 2
}

[ "$(id -u)" = 0 ] || fail "this needs root (chroot, mounts): sudo $0"
command -v mmdebstrap >/dev/null || fail "no mmdebstrap: apt-get install mmdebstrap"
if [ "$(uname -m)" != aarch64 ]; then
    handler=/proc/sys/fs/binfmt_misc/qemu-aarch64
    [ -e "$handler" ] || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc 2>/dev/null || true
    # F: the kernel holds the emulator open, so that it is found from inside the root
    grep -q '^flags:.*F' "$handler" 2>/dev/null ||
        fail "the kernel does not start aarch64 programs: apt-get install qemu-user-static binfmt-support"
fi

mkdir -p "$cache"
root=$cache/root-$suite
if [ ! -f "$root/.complete" ]; then
    echo "test-arm64.sh: building a root of Debian $suite for arm64" >&2
    rm -rf "$root"
    mmdebstrap --quiet --architectures=arm64 --variant=minbase --include="$packages" \
        --aptopt='APT::Install-Recommends "false"' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/man/*' --format=directory "$suite" "$root"
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
    chroot "$root" useradd --create-home --uid 1000 tester
    touch "$root/.complete"
fi

# inside PROGRAM...: in mount and process namespaces of its own, so that nothing is left mounted. There is no /sys in it:
# it would show this machine's processor, in which onnxruntime's cpuinfo for aarch64 gets lost (it crashes or hangs).
inside() {
    # shellcheck disable=SC2016  # expanded by the inner shell
    unshare --mount --pid --fork --kill-child sh -eu -c '
        root=$1 shared=$2
        shift 2
        mount -t proc proc "$root/proc"
        mount -t tmpfs -o mode=755 tmpfs "$root/dev"
        for node in null zero full random urandom tty; do
            touch "$root/dev/$node"
            mount --bind "/dev/$node" "$root/dev/$node"
        done
        mkdir "$root/dev/shm" "$root/dev/pts"
        mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
        mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts "$root/dev/pts"
        ln -s pts/ptmx "$root/dev/ptmx"
        ln -s /proc/self/fd "$root/dev/fd"
        mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
        if [ -n "$shared" ]; then
            mkdir -p "$root/shared"
            mount --bind -o ro "$shared" "$root/shared"
        fi
        exec chroot --userspec=1000:1000 "$root" env -i -C /home/tester/harrier HOME=/home/tester LANG=C.UTF-8 \
            PATH=/home/tester/venv/bin:/usr/bin:/bin:/usr/sbin ${shared:+HARRIER_SHARED=/shared} "$@"
    ' sh "$root" "${HARRIER_SHARED:-}" "$@"
}

echo "test-arm64.sh: copying the working tree and fetching wheels for aarch64" >&2
work=$root/home/tester/harrier
rm -rf "$work"
mkdir -p "$work"
tar -C "$repository" --exclude=__pycache__ --exclude=.venv --exclude=.git --exclude=.mypy_cache --exclude=.ruff_cache \
    --exclude=.pytest_cache --exclude=.hypothesis --exclude='*.egg-info' -c . | tar -C "$work" -x
version=$(chroot "$root" python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
sum=$(cat "$repository/pyproject.toml" "$repository/constraints.txt" | cksum | cut -d' ' -f1)
wheels=$root/home/tester/wheels
venv=$root/home/tester/venv
if [ "$(cat "$venv/.harrier" 2>/dev/null)" != "$sum" ]; then
    mkdir -p "$wheels"
    # pip on this machine downloads what is for the other one; harrier itself is installed from the copy
    "$python" -m pip wheel -q -q --no-deps --wheel-dir "$wheels" pymavlink -c "$repository/constraints.txt"
    "$python" -m pip download -q -q --dest "$wheels" --only-binary=:all: --python-version "$version" \
        --implementation cp --abi "cp${version/./}" --abi abi3 --abi none --platform manylinux_2_28_aarch64 \
        --platform manylinux_2_27_aarch64 --platform manylinux_2_26_aarch64 --platform manylinux_2_17_aarch64 \
        --platform manylinux2014_aarch64 --find-links "$wheels" -c "$repository/constraints.txt" \
        ai-edge-litert numpy opencv-python-headless msgspec onnxruntime pyserial paho-mqtt pymavlink eclipse-zenoh \
        aiohttp pytest pytest-xdist hypothesis psutil setuptools mcap onnx
    chown -R 1000:1000 "$root/home/tester"
    [ -x "$venv/bin/pip" ] || inside python3 -m venv /home/tester/venv
    inside pip install -q -q --no-compile --no-index --find-links /home/tester/wheels setuptools pytest pytest-xdist hypothesis \
        psutil mcap onnx
    inside pip install -q -q --no-compile --no-index --find-links /home/tester/wheels --no-build-isolation -e ".[$extras]"
    echo "$sum" >"$venv/.harrier"
fi
# the catalogue's models come from this side: inside, nothing is fetched
home=$root/home/tester/.local/share/harrier
(cd "$repository" && for name in face astronaut; do
    HARRIER_HOME="$home" "$python" -m edge --quiet models pull "$name" >/dev/null
done)
chown -R 1000:1000 "$root/home/tester"

if [ $# -eq 0 ]; then
    # the robot's half: no converter, benchmark, firmware, service manager or rules of the house, nor 80 pictures through
    # ONNX Runtime (about an hour); other tests run the same models on a few
    set -- --unit --ignore=tests/convert --ignore=tests/calibration --ignore=tests/evaluation --ignore=tests/house \
        --ignore=tests/service --ignore=tests/docker --ignore=tests/test_recipes.py --ignore=tests/test_run_script.py \
        -m 'not network and not gstreamer' -k 'not large_in_coco'
fi
inside python -c 'import platform, ai_edge_litert, cv2, numpy, onnxruntime, msgspec
from importlib.metadata import version
print(platform.machine(), "Python", platform.python_version(), "LiteRT", version("ai-edge-litert"), "OpenCV",
      cv2.__version__, "numpy", numpy.__version__, "onnxruntime", onnxruntime.__version__, "msgspec", msgspec.__version__)'
# an interrupt lets pytest say what it has found so far
inside timeout --signal=INT --kill-after=120 "${HARRIER_ARM64_LIMIT_S:-7200}" python -m pytest -v -p no:cacheprovider -n "${HARRIER_ARM64_JOBS:-1}" --dist loadfile "$@" 2>&1 | tee "$log"
