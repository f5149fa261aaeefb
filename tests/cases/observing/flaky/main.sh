#!/bin/sh
read -r word
[ "$word" != fail ] || exit 1
# Longer than a look at the alarms takes to come.
[ "$word" != wait ] || sleep 12
echo fine
