#!/bin/bash
# The post-hook: lets the database go on. It fails if the timer was faster, for then the copy was not made of a
# database that stood still. `thaw.sh after SECONDS` is that timer; freeze.sh takes the functions from here.
STATE=/tmp/freeze
SERVER=/usr/lib/postgresql/15/bin/postgres

servers() {
    local folder
    for folder in /proc/[0-9]*; do
        [ "$(readlink "$folder/exe")" != "$SERVER" ] || echo "${folder#/proc/}"
    done
}

# Sends SIGSTOP to what still runs; true if nothing did.
all_stopped() {
    local pid line result=0
    for pid in $(servers); do
        line=$(cat "/proc/$pid/stat" 2> /dev/null) || continue
        case ${line##*) } in
            T*) ;;
            *) kill -STOP "$pid" 2> /dev/null || true; result=1 ;;
        esac
    done
    return "$result"
}

thaw() {
    local pid
    for pid in $(servers); do kill -CONT "$pid" 2> /dev/null || true; done
}

main() {
    if [ "${1:-}" = after ]; then
        sleep "$2"
        touch "$STATE/timer-was-faster"
        thaw
        return
    fi
    if [ -e "$STATE/timer-was-faster" ]; then
        echo "the timer in the container had thawed the database before the backup was done" >&2
        return 1
    fi
    # The timer leads a session: this ends its sleep too.
    [ ! -s "$STATE/timer" ] || kill -- "-$(cat "$STATE/timer")" 2> /dev/null
    thaw
}

[ "${BASH_SOURCE[0]}" != "$0" ] || main "$@"
