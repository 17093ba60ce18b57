#!/bin/bash
# The pre-hook: makes the database stand still. Its files do not change from here on, so a copy of them is
# what a power cut would leave behind: crash-consistent. A timer thaws it whatever happens to the backup.
set -eu
STATE=/tmp/freeze
THAW_AFTER=120 # seconds
STOP_WITHIN=20 # seconds

# shellcheck source=tests/e2e/shop/thaw.sh
source /scripts/thaw.sh

sql() { psql -h /tmp -d postgres -qAt -c "$1"; }

rm -rf "$STATE"
mkdir "$STATE"
sql checkpoint # less to replay, and less to copy
sql "select count(*), coalesce(max(id), 0) from ticks" > "$STATE/rows"
setsid bash /scripts/thaw.sh after "$THAW_AFTER" < /dev/null > /dev/null 2>&1 &
echo "$!" > "$STATE/timer"

# The first round may miss a process that was just forked; the last one has found none that runs.
deadline=$((SECONDS + STOP_WITHIN))
until all_stopped; do
    if ((SECONDS >= deadline)); then
        thaw
        echo "some processes of the database did not stop within $STOP_WITHIN s" >&2
        exit 1
    fi
done
