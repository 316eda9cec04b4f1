#!/usr/bin/env bash
# Builds docker/Dockerfile without a Docker engine, weighs the image, and runs it as docs/docker.md says: another user, the
# root file system read-only, no capabilities. Prints what it saw; exits with 0 when all of it is right.
#
#   sudo docker/test-cpu-image.sh
#
# Needs: apt-get install buildah podman runc mmdebstrap; network; about 3 GB, which are given back at the end.
# HARRIER_EXTRAS: extras to build with. TMPDIR: where the folder is made that this works in.
set -euo pipefail

repository=$(cd "$(dirname "$0")/.." && pwd)
limit_mb=350
suite=trixie

fail() {
    echo "test-cpu-image.sh: $1" >&2
    exit 1
}

[ "$(id -u)" = 0 ] || fail "this needs root (chroot, mounts): sudo $0"
for tool in buildah podman runc; do
    command -v "$tool" >/dev/null || fail "no $tool: apt-get install buildah podman runc"
done

work=$(mktemp -d "${TMPDIR:-/tmp}/harrier-image.XXXXXX")
options=(--root "$work/storage" --runroot "$work/run" --storage-driver vfs)
pod=(podman "${options[@]}" --log-level fatal --cgroup-manager cgroupfs --runtime runc)
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
certificates=/etc/ssl/certs/ca-certificates.crt
printf '[global]\ncert = /ca.crt\n' >"$work/pip.conf"
build=(buildah "${options[@]}" bud --isolation chroot --format docker --quiet --build-arg "BASE=$base")
[ ! -f "$certificates" ] || build+=(--volume "$certificates:/ca.crt:ro" --volume "$work/pip.conf:/etc/pip.conf:ro")
[ -z "${HARRIER_EXTRAS:-}" ] || build+=(--build-arg "EXTRAS=$HARRIER_EXTRAS")
"${build[@]}" -f "$repository/docker/Dockerfile" -t "$image" "$repository" >"$work/build.log" 2>&1 || {
    tail -30 "$work/build.log" >&2
    fail "the image cannot be built"
}

bytes() {
    "${pod[@]}" image inspect --format '{{.Size}}' "$1"
}
size=$(bytes "$image")
echo "size: $((size / 1000000)) MB, of them $(($(bytes "$base") / 1000000)) MB the base"
[ "$size" -lt $((limit_mb * 1000000)) ] || fail "that is more than $limit_mb MB"

# as docs/docker.md has it; there is no systemd here to call the health check every 30 s, so it is called below
confined=(--network host --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges
    --health-interval disable --ulimit nofile=1024:1024 --ulimit nproc=1024:1024)
mkdir "$work/etc"
cat >"$work/etc/robot.toml" <<'END'
model = "face"
source = "synthetic://?fps=15"
publish = ["unix:///tmp/vision.sock", "tcp://127.0.0.1:0"]
END
chmod -R a+rX "$work/etc"
chmod a+x "$work"

in_it() {
    timeout 60 "${pod[@]}" exec robot "$@"
}
expect() { # NAME STATUS COMMAND...: run it, and say how it ended
    local name=$1 status=$2 found=0 said
    shift 2
    said=$("$@" 2>&1) || found=$?
    echo "$name: ${said//$'\n'/ | }"
    [ "$found" = "$status" ] || fail "$name: exit code $found instead of $status"
}
await() { # SECONDS COMMAND...: until it succeeds
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || fail "this did not come true in time: $*"
        sleep 1
    done
}

restarted() {
    [ "$("${pod[@]}" inspect --format '{{.RestartCount}}' robot)" -ge 1 ]
}

"${pod[@]}" run --detach --name robot "${confined[@]}" --env HARRIER_RESTART_AFTER_S=1 --env HARRIER_HEALTH_S=4 \
    --restart on-failure --volume "$work/etc:/etc/harrier:ro" --volume state:/var/lib/harrier "$image" >/dev/null
await 60 in_it test -S /tmp/vision.sock
expect "results" 0 in_it harrier listen unix:///tmp/vision.sock --count 3 --timeout 20
await 20 in_it harrier-health
expect "health" 0 in_it harrier-health
expect "health, by the engine" 0 timeout 60 "${pod[@]}" healthcheck run robot
expect "user" 0 in_it id -u
expect "capabilities" 0 in_it grep -E 'Cap(Eff|Bnd)|NoNewPrivs' /proc/self/status
expect "the root is read-only" 1 in_it touch /opt/harrier/x
expect "the state is not" 0 in_it touch /var/lib/harrier/x

# a loop that hangs: the health check says so, and ends it, as HARRIER_RESTART_AFTER_S asks
# shellcheck disable=SC2016  # expanded inside
in_it sh -c 'kill -STOP $(cat /proc/1/task/1/children)'
if said=$(in_it harrier-health 2>/dev/null); then fail "a run that hangs is called well: $said"; fi # it ends with the container
echo "health of a run that hangs: $said"
await 30 restarted
await 60 in_it test -S /tmp/vision.sock
await 30 in_it harrier-health
echo "restarted: $("${pod[@]}" inspect --format '{{.RestartCount}}' robot) time, well again"

began=$SECONDS
"${pod[@]}" stop --time 10 robot >/dev/null
echo "stopped: in $((SECONDS - began)) s, exit code $("${pod[@]}" inspect --format '{{.State.ExitCode}}' robot)"
[ "$("${pod[@]}" inspect --format '{{.State.ExitCode}}' robot)" = 0 ] || fail "it did not end by itself"
expect "a missing configuration" 2 timeout 60 "${pod[@]}" run --rm "${confined[@]}" "$image" run /etc/harrier/robot.toml
# compose.yaml mounts all of /dev; what its rules leave out stays shut, even for root
expect "a device that is not given" 1 timeout 60 "${pod[@]}" run --rm "${confined[@]}" --user 0 --volume /dev:/dev \
    --device-cgroup-rule 'c 81:* rw' --entrypoint head "$image" -c 1 /dev/kmsg
