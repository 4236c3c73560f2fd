#!/bin/sh
# Says which programs the tests need that pip cannot install, and how to get them. Exit 0: all there; 1: some missing.
# With --packages it prints nothing but the names of the missing Debian packages.
set -eu

has() { command -v "$1" >/dev/null 2>&1; }
missing=""

has chromium || has chromium-browser || has google-chrome || missing="$missing chromium"

has initdb || ls /usr/lib/postgresql/*/bin/initdb /opt/homebrew/opt/postgresql*/bin/initdb >/dev/null 2>&1 ||
  missing="$missing postgresql"

# OpenCV's wheel links against these on Linux.
if [ "$(uname -s)" = Linux ] && has ldconfig; then
  ldconfig -p | grep -q 'libGL\.so\.1' || missing="$missing libgl1"
  ldconfig -p | grep -q 'libgthread-2\.0\.so\.0' || missing="$missing libglib2.0-0"
fi

missing=${missing# }
if [ "${1:-}" = --packages ]; then
  echo "$missing"
  exit 0
fi
if [ -z "$missing" ]; then
  exit 0
fi
echo "The tests need programs that are missing here: $missing" >&2
echo "  Debian, Ubuntu: sudo apt-get update && sudo apt-get install -y $missing" >&2
echo "  Fedora:         sudo dnf install -y chromium postgresql-server mesa-libGL glib2" >&2
echo "  macOS:          brew install --cask chromium && brew install postgresql" >&2
echo "Without them, 'make test-fast' runs all tests that need neither a browser nor Label Studio." >&2
exit 1
