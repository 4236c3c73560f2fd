#!/bin/bash
# Run once, by PostgreSQL's image, on an empty data folder: one database and one owner each for Label Studio and the desk.
set -euo pipefail

make_database() {
  # psql quotes the variables itself: a password may hold any character. It reads them from its input, so that no
  # password stands on a command line.
  psql --no-psqlrc --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres <<SQL
\\set owner '$1'
\\set password \`cat '$2'\`
CREATE ROLE :"owner" LOGIN PASSWORD :'password';
CREATE DATABASE :"owner" OWNER :"owner";
REVOKE ALL ON DATABASE :"owner" FROM PUBLIC;
SQL
}

make_database label_studio "$LABEL_STUDIO_DATABASE_PASSWORD_FILE"
make_database inspection "$DESK_DATABASE_PASSWORD_FILE"
