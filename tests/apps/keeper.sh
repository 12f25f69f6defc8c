#!/bin/sh
# A shell script that keeps a file for as long as it runs, as scripts with a lock or a mount do. Its child must go too.
# SIGUSR1 makes it end with 3, as `set -e` scripts do now and then.
trap 'rm -f "$KEPT"; echo "keeper has tidied up"; exit 0' TERM
trap 'echo "keeper gives up"; exit 3' USR1
echo $$ >"$KEPT"
echo "keeper pid $$ keeps it"
sleep 1000000 &
# `wait` ends at a signal, sleep in the foreground would not.
wait
