#!/bin/sh
# Makes the secrets that compose.yaml reads, in secrets/ beside this file. What is there already is never changed.
set -eu
cd "$(dirname "$0")"

umask 077
mkdir -p secrets

random() { od -An -tx1 -N "$1" /dev/urandom | tr -d ' \n'; }

keep() {
  if [ -s "secrets/$1" ]; then
    echo "kept  secrets/$1"
    return
  fi
  printf '%s' "$2" >"secrets/$1.new"
  # A container's user is none of this host's: the files are readable, and the folder around them is shut.
  chmod 0444 "secrets/$1.new"
  mv "secrets/$1.new" "secrets/$1"
  echo "made  secrets/$1"
}

keep postgres_password "$(random 24)"
keep label_studio_database_password "$(random 24)"
keep label_studio_password "$(random 12)"
keep label_studio_token "$(random 20)"
keep label_studio_secret_key "$(random 32)"
keep desk_database_password "$(random 24)"
keep desk_password "$(random 24)"
keep desk_webhook_token "$(random 24)"
keep desk_map_key "$(random 24)"
keep desk_database_url "postgresql+psycopg://inspection:$(cat secrets/desk_database_password)@postgres:5432/inspection"
