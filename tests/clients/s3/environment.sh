#!/bin/sh
# Makes a Python environment with the S3 clients in the folder $1, where it is not there yet.
# Ends with 3 where this machine's Python cannot make one.
set -e
folder=$1
exec 9> "$folder.lock"
flock 9
[ -e "$folder/finished" ] && exit 0
python3 -m venv --clear "$folder" || exit 3
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check \
    --requirement "$(dirname "$0")/requirements.txt"
touch "$folder/finished"
