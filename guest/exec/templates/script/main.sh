#!/bin/sh
# The body of the request is on standard input; method, path, query and headers are in the environment.
echo "Hello from $REQUEST_METHOD $PATH_INFO"
wc -c
