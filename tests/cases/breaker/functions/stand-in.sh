#!/bin/sh
read -r line
echo "standing in for $line"
