#!/bin/sh
# Says which programs the tests need that pip cannot install, and how to get them. Exit 0: all there; 1: some missing.
#   --packages  print nothing but the names of the missing Debian packages
#   --install   as root on Debian or Ubuntu, install what is missing; elsewhere, say it
set -eu

has() { command -v "$1" >/dev/null 2>&1; }

missing_packages() {
  missing=""
  has chromium || has chromium-browser || has google-chrome || missing="$missing chromium"
  has initdb || ls /usr/lib/postgresql/*/bin/initdb /opt/homebrew/opt/postgresql*/bin/initdb >/dev/null 2>&1 ||
    missing="$missing postgresql"
  for linter in yamllint shellcheck; do
    has "$linter" || missing="$missing $linter"
  done
  # OpenCV's wheel links against these on Linux.
  if [ "$(uname -s)" = Linux ] && has ldconfig; then
    ldconfig -p | grep -q 'libGL\.so\.1' || missing="$missing libgl1"
    ldconfig -p | grep -q 'libgthread-2\.0\.so\.0' || missing="$missing libglib2.0-0"
  fi
  echo "${missing# }"
}

say_how() {
  echo "The tests need programs that are missing here: $1" >&2
  echo "  Debian, Ubuntu: sudo apt-get update && sudo apt-get install -y $1" >&2
  echo "  Fedora:         sudo dnf install -y chromium postgresql-server yamllint ShellCheck mesa-libGL glib2" >&2
  echo "  macOS:          brew install --cask chromium && brew install postgresql yamllint shellcheck" >&2
  echo "Without them, 'make test-fast' runs all tests that need neither a browser nor Label Studio." >&2
}

install_debian() {
  echo "installing $1"
  export DEBIAN_FRONTEND=noninteractive
  # The tests start clusters of their own: keep the package from starting one beside them.
  mkdir -p /etc/postgresql-common
  [ -e /etc/postgresql-common/createcluster.conf ] ||
    echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
  apt-get update -qq
  # shellcheck disable=SC2086  # a list of names
  apt-get install -y -qq --no-install-recommends $1 fonts-liberation >/dev/null
}

packages=$(missing_packages)
if [ "${1:-}" = --packages ]; then
  echo "$packages"
  exit 0
fi
if [ "${1:-}" = --install ] && [ -n "$packages" ] && [ "$(id -u)" -eq 0 ] && has apt-get; then
  install_debian "$packages"
  packages=$(missing_packages)
fi
if [ -n "$packages" ]; then
  say_how "$packages"
  exit 1
fi
