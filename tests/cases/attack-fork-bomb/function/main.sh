#!/bin/sh
# Processes that start two of their own each, for ever; or says how many there are.
[ -n "$ALULA_INSTANCE" ] || { echo "this attacks the machine that it runs on, and belongs into a sandbox" >&2; exit 1; }
bomb() {
    bomb | bomb &
    wait
}
if [ "$QUERY_STRING" = bomb ]; then
    # The shell itself starts no process from here on: it would be refused and end the call.
    bomb &
    exec sleep 60
fi
set -- /proc/[0-9]*
if [ $# -le 4 ]; then echo "processes: few"; else echo "processes: $#"; fi
