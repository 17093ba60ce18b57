#!/bin/bash
# Says what a step does and how long it took; counts tests; ends with the step's exit code.
#
#   step.sh --begin        forgets the steps of an earlier run
#   step.sh NAME CMD…      runs CMD as a step
#   step.sh --summary      lists the steps and their seconds; last line: N passed, N failed
set -u -o pipefail

folder=${CARGO_TARGET_DIR:-target}/steps
mkdir -p "$folder" || exit

summary() {
    echo
    echo "== steps"
    cat "$folder/times" 2>/dev/null
    awk '{ seconds += $1 } END { printf "%6d s  in all\n", seconds }' "$folder/times" 2>/dev/null
    # "test result: ok. 3 passed; 0 failed; 0 ignored; …", once for each test binary
    cat "$folder"/*.log 2>/dev/null | awk '
        /^test result: / { passed += $4; failed += $6; ignored += $8 }
        END {
            if (ignored) printf "%d ignored\n", ignored
            printf "%d passed, %d failed\n", passed, failed
        }'
}

case ${1-} in
--begin)
    rm -f "$folder"/*.log "$folder/times"
    exit
    ;;
--summary)
    summary
    exit
    ;;
esac

name=${1:?a name for the step}
shift
number=$(find "$folder" -name '*.log' | wc -l)
log=$(printf '%s/%02d.log' "$folder" "$number")
echo
echo "== $name   ($(date +%T): $*)"
start=$(date +%s)
"$@" 2>&1 | tee "$log"
code=$?
seconds=$(($(date +%s) - start))
if [ "$code" -eq 0 ]; then
    outcome=done
else
    outcome="FAILED with exit code $code"
fi
printf '%6d s  %s: %s\n' "$seconds" "$name" "$outcome" >>"$folder/times"
echo "== $name: $outcome, $seconds s"
exit "$code"
