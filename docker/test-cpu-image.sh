#!/usr/bin/env bash
# Builds docker/Dockerfile without a Docker engine, weighs the image, and runs it as docs/docker.md says: another user, the
# root file system read-only, no capabilities. Prints what it saw; exits with 0 when all of it is right.
#
#   sudo docker/test-cpu-image.sh
#
# Needs: apt-get install buildah podman crun mmdebstrap; network; about 3 GB, which are given back at the end.
# HARRIER_EXTRAS: extras to build with. HARRIER_IMAGE_WORK: where to work (default a new folder under /tmp).
# HARRIER_IMAGE_PIP: a folder with pip's cache, so that a second build downloads nothing.
set -euo pipefail

repository=$(cd "$(dirname "$0")/.." && pwd)
limit_mb=350
suite=trixie

fail() {
    echo "test-cpu-image.sh: $1" >&2
    exit 1
}

[ "$(id -u)" = 0 ] || fail "this needs root (chroot, mounts): sudo $0"
for tool in buildah podman crun; do
    command -v "$tool" >/dev/null || fail "no $tool: apt-get install buildah podman crun"
done

work=${HARRIER_IMAGE_WORK:-$(mktemp -d)}
mkdir -p "$work"
options=(--root "$work/storage" --runroot "$work/run" --storage-driver vfs)
pod=(podman "${options[@]}" --cgroup-manager cgroupfs --runtime crun)
clean() {
    "${pod[@]}" rm --all --force --time 1 >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap clean EXIT

image=localhost/harrier-test
base=docker.io/library/debian:$suite-slim
if timeout 60 buildah "${options[@]}" pull --quiet "$base" >/dev/null 2>&1; then
    echo "base: $base"
else
    # the registry is out of reach: a minimal Debian, without what the slim image leaves out too
    echo "base: Debian $suite by mmdebstrap, in place of $base"
    command -v mmdebstrap >/dev/null || fail "no mmdebstrap: apt-get install mmdebstrap"
    mmdebstrap --quiet --variant=minbase --aptopt='APT::Install-Recommends "false"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' "$suite" "$work/base.tar"
    base=localhost/debian:$suite-slim
    from=$(buildah "${options[@]}" from scratch)
    buildah "${options[@]}" add --quiet "$from" "$work/base.tar" / >/dev/null
    buildah "${options[@]}" commit --quiet --rm "$from" "$base" >/dev/null
    rm "$work/base.tar"
fi

# behind a proxy with a certificate of its own, the build must know that one, too
volumes=()
certificates=/etc/ssl/certs/ca-certificates.crt
[ ! -f "$certificates" ] || volumes+=(--volume "$certificates:/ca.crt:ro" --env PIP_CERT=/ca.crt)
build=(buildah "${options[@]}" bud --isolation chroot --format docker --quiet --build-arg "BASE=$base")
[ -z "${HARRIER_EXTRAS:-}" ] || build+=(--build-arg "EXTRAS=$HARRIER_EXTRAS")
"${build[@]}" "${volumes[@]}" -f "$repository/docker/Dockerfile" -t "$image" "$repository" >/dev/null

bytes=$("${pod[@]}" image inspect --format '{{.Size}}' "$image")
base_bytes=$("${pod[@]}" image inspect --format '{{.Size}}' "$base")
echo "size: $((bytes / 1000000)) MB, of which $((base_bytes / 1000000)) MB are the base"
