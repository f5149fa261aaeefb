#!/bin/sh
echo "it is $API_KEY" >&2
printf %s "$API_KEY" | rev
