#!/bin/sh
# Makes a Python environment with what the file $2 requires in the folder $1, where it is not there yet.
# Ends with 3 where this machine's Python cannot make one.
set -e
folder=$1
requirements=$2
exec 9> "$folder.lock"
flock 9
[ -e "$folder/finished" ] && exit 0
python3 -m venv --clear "$folder" || exit 3
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$requirements"
touch "$folder/finished"
