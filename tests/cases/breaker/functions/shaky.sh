#!/bin/sh
read -r line
[ "$line" = fail ] && exit 1
echo well
