#!/bin/sh
echo witnessed
