#!/bin/sh
# Brings a broker of Kafka into the folder $1, where it is not there yet.
# Ends with 3 where this machine has no Java or no Maven.
set -e
folder=$1
mkdir -p "$(dirname "$folder")"
exec 9> "$folder.lock"
flock 9
[ -d "$folder" ] && exit 0
command -v java >/dev/null && command -v mvn >/dev/null || exit 3
rm -rf "$folder.part"
mvn --quiet --batch-mode --file "$(dirname "$0")/pom.xml" \
    org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies "-DoutputDirectory=$folder.part" >&2
mv "$folder.part" "$folder"
