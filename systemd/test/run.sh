#!/usr/bin/env bash
# Boots a minimal Debian under systemd-nspawn, installs the wheel in it, and lets Harrier's service start, die, hang and
# lose its camera and its serial line. Prints what each recovery took. Exit code: 0 when it came back every time, 1 when
# not, 2 for a wrong call, 77 with the reason where this machine does not allow it.
#
#   sudo systemd/test/run.sh [SUITE]        a Debian whose Python is 3.10 to 3.13: bookworm (default), trixie
#
# PYTHON: an interpreter that has Harrier's dependencies (default python3; in a checkout .venv/bin/python).
# HARRIER_NSPAWN_CACHE: keeps the root and the wheels (about 1 GB; default ~/.cache/harrier-nspawn).
# HARRIER_NSPAWN_REPORT: gets the measurements as JSON.
# HARRIER_NSPAWN_QUICK=1: each fault once, and none that takes minutes.
set -euo pipefail

suite=${1:-bookworm}
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
python=${PYTHON:-python3}
cache=${HARRIER_NSPAWN_CACHE:-$HOME/.cache/harrier-nspawn}
build_s=900 boot_s=900
[ -z "${HARRIER_NSPAWN_QUICK:-}" ] || build_s=400 boot_s=300
# a real RTSP server as the camera, and socat's pseudo terminals as the serial line
packages=systemd,systemd-sysv,dbus,udev,python3,python3-venv,socat,python3-gi,gir1.2-gst-rtsp-server-1.0
packages+=,gstreamer1.0-plugins-base,gstreamer1.0-plugins-good

fail() {
    echo "run.sh: $1" >&2
    exit "${2:-2}"
}

skip() {
    fail "not possible here: $1" 77
}

# said FILE: the line of a tool's output that tells most
said() {
    grep -m1 '^E: ' "$1" || tail -n1 "$1" | tr -d '\r' | grep . || echo "it said nothing, or took too long"
}

[ "$(id -u)" = 0 ] || skip "it needs root: sudo $0"
for tool in mmdebstrap systemd-nspawn; do
    command -v "$tool" >/dev/null || skip "no $tool: apt-get install mmdebstrap systemd-container"
done
"$python" -c 'import msgspec, pip' 2>/dev/null || fail "$python has no Harrier: PYTHON=.venv/bin/python $0"

mkdir -p "$cache/wheels"
work=$(mktemp -d "$cache/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir "$root"

base=$cache/base-$suite-$(printf %s "$packages" | cksum | cut -d' ' -f1).tar
if [ ! -f "$base" ]; then
    echo "run.sh: building a root of Debian $suite (about two minutes; given up after $build_s s)" >&2
    timeout "$build_s" mmdebstrap --quiet --format=tar --variant=minbase --include="$packages" \
        --aptopt='APT::Install-Recommends "false"' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' "$suite" "$base.partial" 2>"$work/mmdebstrap" ||
        skip "no root of Debian $suite could be built ($(said "$work/mmdebstrap"))"
    mv "$base.partial" "$base"
fi
tar -C "$root" --exclude='./dev/*' -xf "$base"

# CAP_BPF and its call: only so is DeviceAllow= enforced inside
flags=(--register=no --private-network --capability=CAP_BPF --system-call-filter=bpf --console=pipe)
[ -d /run/systemd/system ] || flags+=(--keep-unit)
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
timeout 60 systemd-nspawn --quiet -D "$root" "${flags[@]}" true </dev/null >"$work/console" 2>&1 ||
    skip "systemd-nspawn starts nothing ($(said "$work/console"))"

echo "run.sh: building and installing the wheel" >&2
mkdir "$work/source"
(cd "$repository" && cp -r pyproject.toml README.md LICENSE edge convert calibration systemd "$work/source")
"$python" -m pip wheel -q -q --no-deps --wheel-dir "$work" "$work/source"
version=$(chroot "$root" python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
abi=cp${version/./}
"$python" -m pip download -q -q --dest "$cache/wheels" --only-binary=:all: --python-version "$version" \
    --implementation cp --abi "$abi" --abi abi3 --abi none --platform "manylinux_2_28_$(uname -m)" \
    --platform "manylinux_2_27_$(uname -m)" --platform "manylinux_2_17_$(uname -m)" \
    --platform "manylinux2014_$(uname -m)" \
    -c "$repository/constraints.txt" "$(ls "$work"/harrier_edge-*.whl)[serial]"
rm -f "$cache"/wheels/harrier_edge-*
mkdir "$root/wheels"
cp "$cache"/wheels/*.whl "$work"/harrier_edge-*.whl "$root/wheels"
chroot "$root" python3 -m venv /opt/harrier
chroot "$root" /opt/harrier/bin/pip install -q -q --no-index --find-links /wheels 'harrier-edge[serial]'
rm -rf "$root/wheels"

# the model comes from the catalogue on this side: there is no network inside
(cd "$repository" && HARRIER_HOME="$cache/home" "$python" -m edge --quiet models pull face >/dev/null)
mkdir -p "$root/var/lib/harrier" "$root/test"
cp -r "$cache/home/." "$root/var/lib/harrier"
cp "$here/front.toml" "$here/inside.py" "$repository/tests/sources/rtsp_server.py" "$root/test"
cp "$here"/*.service "$root/etc/systemd/system"
[ -z "${HARRIER_NSPAWN_QUICK:-}" ] || touch "$root/test/quick"
systemctl --quiet --root="$root" enable harrier-camera.service harrier-line.service harrier-test.service
ln -sf /dev/null "$root/etc/systemd/system/getty.target"
echo harrier-test >"$root/etc/hostname"

for phase in faults boot; do
    echo "run.sh: booting ($phase)" >&2
    timeout "$boot_s" systemd-nspawn --quiet -D "$root" "${flags[@]}" --boot systemd.show_status=no \
        </dev/null >"$work/console" 2>&1 || true
    [ -f "$root/test/log" ] || skip "systemd does not boot under systemd-nspawn ($(said "$work/console"))"
    if [ ! -f "$root/test/$phase.done" ]; then
        cat "$work/console" "$root/test/log" >&2
        fail "Harrier did not come back ($phase)" 1
    fi
done
cat "$root/test/log"
[ -z "${HARRIER_NSPAWN_REPORT:-}" ] || cp "$root/test/report.json" "$HARRIER_NSPAWN_REPORT"
