#!/bin/sh
# Reads Debian's iso_3166-1.json on standard input and writes one line a country: code, code, number, name.
set -eu

# In two steps, because a pipe would hide that the first one failed.
jq --raw-output '
  .["3166-1"][]
  | [.alpha_2, .alpha_3, .numeric, (.common_name // .name)]
  | @tsv
' > /tmp/countries

LC_ALL=C sort --unique /tmp/countries
