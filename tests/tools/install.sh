#!/bin/bash
# Installs what the tests need on Debian 12 with Rust, Go and Node.js: Debian packages, and programs
# built from modules into a cache outside the tree. Quiet and fast when all is there.
#
#   install.sh [PART...]     apt | kubernetes | versitygw | minio | fake-gcs | azurite |
#                            cluster | stores | reader | peers | all (the default)
#
# cluster is apt and kubernetes; stores are the four servers in between; reader is a Python with
# what format-spec/reader needs; peers are the programs that benches/compare runs beside kist: it alone
# asks for them, all does not. The cache is $KIST_CACHE, or
# ~/.cache/kist-lab; a program lies in it as bin/NAME-VERSION. Two runs at once wait for each other.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${KIST_CACHE:-$HOME/.cache/kist-lab}
BIN=$CACHE/bin

# tests/e2e/cluster/tools.rs has the same two versions.
KUBERNETES=1.34.4
VERSITYGW=v1.8.0
# tests/support has the same as each of these. MinIO has no versions that Go knows: it is a commit.
MINIO=v0.0.0-20260212201848-7aac2a2c5b7c
FAKE_GCS=v1.56.1
AZURITE=3.37.0
# benches/compare/peers.py reads these four lines.
RUSTIC=0.11.4
RESTIC=v0.18.1
BUPSTASH=0.12.0
BORG=1.4.5

PACKAGES=(
    etcd-server containerd runc containernetworking-plugins  # the cluster's parts
    iptables conntrack iproute2 util-linux procps            # what these and the harness call
    busybox-static mmdebstrap                                # images made on the spot
    openssl                                                  # certificates
    acl attr libcap2-bin                                     # tests of file attributes
)
KUBERNETES_PARTS=(kube-scheduler kube-proxy kube-controller-manager kubelet kube-apiserver)

say() { echo "install: $*" >&2; }
die() { say "$*"; exit 1; }

# Shows the end of a log. The addresses in it are this machine's own business.
show_end() { tail -n 15 "$1" | sed -E 's#[a-z]+://[^ ]*#(address)#g' >&2; }

# Ends a build: puts what was built into its place, or shows why there is nothing. RESULT FOLDER WHAT PLACE LOG
put_in_place() {
    local result=$1 work=$2
    if [ "$result" -eq 0 ]; then
        mv "$3" "$4" || result=$?
    else
        show_end "$5"
    fi
    rm -rf "$work"
    return "$result"
}

# Runs one step and says what it is and how long it took.
step() {
    local what=$1 begin=$SECONDS
    shift
    say "$what ..."
    "$@" || die "$what: failed"
    say "$what: done in $((SECONDS - begin)) s"
}

# What the peers are built with, and the compressor that is a limit of theirs.
PEER_PACKAGES=(
    libsodium-dev libacl1-dev libssl-dev liblz4-dev libzstd-dev libxxhash-dev
    pkg-config gcc libc6-dev python3-dev python3-venv zstd
)

# Those of the packages given that are not installed.
missing_packages() {
    local package status
    for package in "$@"; do
        status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
        [ "$status" = installed ] || echo "$package"
    done
}

# Installs without starting any service: the harness starts its own etcd and containerd.
apt_install() {
    local log=$CACHE/apt.log policy=/usr/sbin/policy-rc.d made='' result=0
    if [ ! -e "$policy" ]; then
        made=$policy
        # shellcheck disable=SC2064 # the path as it is now
        trap "rm -f $made" EXIT
        printf '#!/bin/sh\nexit 101\n' > "$policy"
        chmod 755 "$policy"
    fi
    {
        apt-get update &&
            DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
    } > "$log" 2>&1 || result=$?
    [ -z "$made" ] || rm -f "$made"
    if [ "$result" -ne 0 ]; then
        show_end "$log"
        say "the whole of it is in $log"
        return "$result"
    fi
    # Nor at the next boot, where we are the ones who brought them.
    if [ -d /run/systemd/system ]; then
        local package
        for package in "$@"; do
            case $package in
                etcd-server) systemctl disable --quiet etcd.service || true ;;
                containerd) systemctl disable --quiet containerd.service || true ;;
            esac
        done
    fi
}

part_apt() {
    need_packages "${PACKAGES[@]}"
}

need_packages() {
    local missing
    mapfile -t missing < <(missing_packages "$@")
    [ "${#missing[@]}" -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] || die "these Debian packages are missing, and only root can install them: ${missing[*]}"
    step "Debian packages: ${missing[*]}" apt_install "${missing[@]}"
}

need_go() {
    command -v go > /dev/null || die "Go is missing: the test programs are built with it"
}

# Builds into a folder of its own and renames: a program in the cache is whole.
build_kubernetes() {
    local work version=k8s.io/component-base/version name stamp
    work=$(mktemp -d "$BIN/.kubernetes.XXXXXX")
    # Without the stamps clients see v0.0.0.
    stamp="-s -w -X $version.gitVersion=v$KUBERNETES -X $version.gitTreeState=clean"
    stamp+=" -X $version.gitMajor=${KUBERNETES%%.*} -X $version.gitMinor=$(cut -d. -f2 <<< "$KUBERNETES")"
    for name in "$@"; do
        step "$name $KUBERNETES" env -C "$HERE/kubernetes" CGO_ENABLED=0 \
            go build -mod=readonly -trimpath -buildvcs=false -ldflags "$stamp" \
            -o "$work/" "k8s.io/kubernetes/cmd/$name"
        mv "$work/$name" "$BIN/$name-v$KUBERNETES"
    done
    rm -rf "$work"
}

part_kubernetes() {
    local name missing=()
    grep -Eq "k8s.io/kubernetes v$KUBERNETES( |\$)" "$HERE/kubernetes/go.mod" ||
        die "tests/tools/kubernetes/go.mod is not of version $KUBERNETES"
    for name in "${KUBERNETES_PARTS[@]}"; do
        [ -x "$BIN/$name-v$KUBERNETES" ] || missing+=("$name")
    done
    [ "${#missing[@]}" -gt 0 ] || return 0
    need_go
    say "building Kubernetes takes about ten minutes on two cores, once"
    build_kubernetes "${missing[@]}"
}

# Builds a Go program by its module's name, into bin/NAME-VERSION.
go_program() {
    local name=$1 package=$2 version=$3
    [ ! -x "$BIN/$name-$version" ] || return 0
    need_go
    step "$name $version" build_go_program "$name" "$package" "$version"
}

build_go_program() {
    local name=$1 package=$2 version=$3 work result=0
    work=$(mktemp -d "$BIN/.program.XXXXXX")
    GOBIN=$work CGO_ENABLED=0 go install -trimpath -ldflags "-s -w" \
        "$package@$version" 2> "$CACHE/$name.log" || result=$?
    if [ "$result" -eq 0 ]; then
        mv "$work/${package##*/}" "$BIN/$name-$version" || result=$?
    else
        grep -v '^go: downloading' "$CACHE/$name.log" | tail -n 15 >&2 || true
    fi
    rm -rf "$work"
    return "$result"
}

part_versitygw() {
    go_program versitygw github.com/versity/versitygw/cmd/versitygw "$VERSITYGW"
}

part_minio() {
    go_program minio github.com/minio/minio "$MINIO"
}

part_fake-gcs() {
    go_program fake-gcs-server github.com/fsouza/fake-gcs-server "$FAKE_GCS"
}

build_azurite() {
    local work result=0
    work=$(mktemp -d "$BIN/.program.XXXXXX")
    # The lock file pins all that it brings along; no scripts of theirs are run.
    cp "$HERE/azurite/package.json" "$HERE/azurite/package-lock.json" "$work/" &&
        npm ci --prefix "$work" --omit=dev --ignore-scripts --no-audit --no-fund \
            > "$CACHE/azurite.log" 2>&1 || result=$?
    put_in_place "$result" "$work" "$work" "$BIN/azurite-$AZURITE" "$CACHE/azurite.log"
}

part_azurite() {
    grep -q "\"azurite\": \"$AZURITE\"" "$HERE/azurite/package.json" ||
        die "tests/tools/azurite/package.json is not of version $AZURITE"
    [ ! -d "$BIN/azurite-$AZURITE" ] || return 0
    command -v npm > /dev/null || die "Node.js with npm is missing: azurite is a program for it"
    step "azurite $AZURITE" build_azurite
}

part_stores() {
    part_versitygw
    part_minio
    part_fake-gcs
    part_azurite
}

# The folder has the hash of the requirements in its name: others get a folder of their own.
part_reader() {
    local requirements=$HERE/../../format-spec/reader/requirements.txt hash place work
    hash=$(sha256sum < "$requirements")
    place=$CACHE/reader-${hash:0:16}
    [ ! -x "$place/bin/python" ] || return 0
    if ! python3 -c 'import ensurepip' 2> /dev/null; then
        [ "$(id -u)" = 0 ] || die "Python with venv is missing, and only root can install it (python3-venv)"
        step "Debian packages: python3-venv" apt_install python3-venv
    fi
    work=$CACHE/.reader.$$
    step "Python packages of format-spec/reader" \
        build_venv "$work" "$CACHE/reader.log" --require-hashes --requirement "$requirements"
    mv -T "$work" "$place"
}

# A Python in a folder of its own, with packages. FOLDER LOG PACKAGE...
build_venv() {
    local work=$1 log=$2
    shift 2
    python3 -m venv "$work" &&
        "$work/bin/python" -m pip install --quiet --disable-pip-version-check "$@" > "$log" 2>&1 && return 0
    show_end "$log"
    return 1
}

# Builds a Rust program of a registry, into bin/NAME-VERSION. Its flags are its own, not kist's.
crate_program() {
    local name=$1 crate=$2 version=$3
    [ ! -x "$BIN/$name-$version" ] || return 0
    command -v cargo > /dev/null || die "Rust is missing: $name is built with it"
    step "$name $version" build_crate_program "$name" "$crate" "$version"
}

build_crate_program() {
    local name=$1 crate=$2 version=$3 work result=0
    work=$(mktemp -d "$BIN/.program.XXXXXX")
    env -u RUSTFLAGS -u CARGO_INCREMENTAL -u CARGO_BUILD_TARGET CARGO_TARGET_DIR="$work/target" \
        cargo install --quiet --locked --root "$work" --version "=$version" "$crate" \
        > "$CACHE/$name.log" 2>&1 || result=$?
    put_in_place "$result" "$work" "$work/bin/$name" "$BIN/$name-$version" "$CACHE/$name.log"
}

# A Python of its own for borg: $CACHE/borg-VERSION/bin/borg.
build_borg() {
    local work=$CACHE/.borg.$$
    build_venv "$work" "$CACHE/borg.log" "borgbackup==$BORG" || return 1
    # Moved when it is whole, so the program gets the interpreter's path to be.
    sed -i "1s|.*|#!$CACHE/borg-$BORG/bin/python|" "$work/bin/borg"
    mv -T "$work" "$CACHE/borg-$BORG"
}

part_borg() {
    [ ! -x "$CACHE/borg-$BORG/bin/borg" ] || return 0
    step "borg $BORG" build_borg
}

# A peer that can't be had here is left out, loudly, and named in the bench's table.
part_peers() {
    (need_packages "${PEER_PACKAGES[@]}") || say "PEERS: some packages are missing, so some peers may not be built"
    (go_program restic github.com/restic/restic/cmd/restic "$RESTIC") || say "PEER LEFT OUT: restic $RESTIC"
    (part_borg) || say "PEER LEFT OUT: borg $BORG"
    (crate_program bupstash bupstash "$BUPSTASH") || say "PEER LEFT OUT: bupstash $BUPSTASH"
    (crate_program rustic rustic-rs "$RUSTIC") || say "PEER LEFT OUT: rustic $RUSTIC"
}

mkdir -p "$BIN"
exec 9> "$CACHE/install.lock"
if ! flock --nonblock 9; then
    say "another run is installing: waiting for it"
    flock 9
fi
# Under the lock: what lies here is of a run that was killed.
rm -rf "$BIN"/.kubernetes.* "$BIN"/.program.* "$CACHE"/.reader.* "$CACHE"/.borg.*

[ $# -gt 0 ] || set -- all
for part in "$@"; do
    case $part in
        apt | kubernetes | versitygw | minio | fake-gcs | azurite | stores | reader | peers) "part_$part" 9>&- ;;
        cluster) part_apt 9>&-; part_kubernetes 9>&- ;;
        all) part_apt 9>&-; part_stores 9>&-; part_reader 9>&-; part_kubernetes 9>&- ;;
        *) die "no such part: $part (apt, kubernetes, versitygw, minio, fake-gcs, azurite, reader, peers, cluster, stores, all)" ;;
    esac
done
