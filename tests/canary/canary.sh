#!/usr/bin/env bash
# Fails on purpose, as canary_test.cpp does, for the runner of scripts.
echo "meant to fail"
exit 1
