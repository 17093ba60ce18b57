#!/bin/bash
# Starts PostgreSQL as its official image does, but not as process 1 of the container: the kernel keeps
# SIGSTOP from that one, and freeze.sh has to stop every process of the server.
set -eu
BIN=/usr/lib/postgresql/15/bin
DATA=/data/db

if [ ! -s "$DATA/PG_VERSION" ]; then
    "$BIN/initdb" --data-checksums --auth trust --pgdata "$DATA"
    echo "host all all all trust" >> "$DATA/pg_hba.conf"
fi
chmod 0700 "$DATA" # the pod's fsGroup opens it to the group at each mount, and the server refuses that

"$BIN/postgres" -D "$DATA" -k /tmp -h '*' -c wal_level=minimal -c max_wal_senders=0 &
server=$!
trap 'kill -INT "$server"' TERM INT
until wait "$server"; do
    kill -0 "$server" 2> /dev/null || exit 1
done
