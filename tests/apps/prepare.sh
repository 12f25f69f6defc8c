#!/bin/sh
# What must be done before the others start: makes the worker's queue.
mkfifo "$QUEUE" && echo "prepared"
