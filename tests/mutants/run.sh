#!/bin/bash
# Changes one expression of crypto or gc after the other and asks whether a test notices (cargo-mutants).
#
#   run.sh [FILE…]      the files of crypto and gc, if none is named
#
# Two passes: all mutants before the quick tests, then those that none of them has noticed before all tests.
# Compared with survivors.txt, which says of each why no test can see it: exit 1 if there is another.
set -eu -o pipefail
cd "$(dirname "$0")/../.."

cache=${KIST_CACHE:-$HOME/.cache/kist-lab}
out=${MUTANTS_OUT:-$cache/mutants}
target=$(rustc -vV | sed -n 's/^host: //p')
mkdir -p "$out"

files=("$@")
[ $# -gt 0 ] || files=('src/crypto/*.rs' 'src/repo/gc/*.rs')

# Built without optimization, in small parts: a mutant costs seconds. Dependencies are built as ever.
export RUSTFLAGS="-C target-feature=+crt-static" CARGO_INCREMENTAL=1 CARGO_TARGET_DIR="${MUTANTS_TARGET:-$cache/mutants-target}"
runner=CARGO_TARGET_$(tr a-z- A-Z_ <<<"$target")_RUNNER
export "$runner=$PWD/tests/mutants/first_failure.py"
build=(--release --locked "--target=$target")
for setting in opt-level=0 codegen-units=256 debug-assertions=true; do
    build+=("--config=profile.release.package.kist.$setting")
done

pass() {
    local tests=$1
    shift
    local code=0
    # Exit 2: mutants were missed; 3: some took too long, and a test that never ends has noticed too.
    KIST_MUTANTS=$tests "$cache/cargo-mutants/bin/cargo-mutants" mutants "$@" --output "$out" --baseline skip --no-shuffle \
        "${files[@]/#/--file=}" "${build[@]/#/--cargo-arg=}" \
        --cargo-arg=--lib --cargo-arg=--test=repo --cargo-arg=--test=spec --cargo-arg=--test=sim || code=$?
    case $code in 0 | 2 | 3) ;; *) exit $code ;; esac
}

case ${MUTANTS_PASS:-both} in
both | quick) rm -rf "$out/mutants.out" && pass quick --timeout 180 ;;
esac
case ${MUTANTS_PASS:-both} in
both | all) pass all --timeout 1200 --iterate ;;
esac

# Lines move: a survivor is its file and what was done.
strip() { sed -E 's/^([^:]*):[0-9]+:[0-9]+: /\1: /' | sort -u; }
new=$(comm -23 <(strip <"$out/mutants.out/missed.txt") <(grep '^src/' tests/mutants/survivors.txt | sort -u))
[ -z "$new" ] || { printf 'no test notices:\n%s\n' "$new" && exit 1; }
echo "no survivor that survivors.txt does not explain"
