#!/bin/sh
# Makes deploy/secrets for compose.yaml: passwords by chance, and the addresses that hold them. What is there stays.
# The folder is its owner's alone. The files in it are open, since each container reads its own as another user.
set -eu
umask 077
cd "$(dirname "$0")"
mkdir -p secrets
cd secrets

new() { # NAME: a password of 192 bits, in hexadecimal, which needs no quoting anywhere
  [ -s "$1" ] || od -An -v -tx1 -N24 /dev/urandom | tr -d ' \n' >"$1"
}

for name in postgres_password results_password valkey_password grafana_password; do new "$name"; done
postgres=$(cat postgres_password) results=$(cat results_password) valkey=$(cat valkey_password)

rm -f redis_url database_url results_database_url valkey_conf # which nobody may write
printf 'redis://:%s@valkey:6379/0\n' "$valkey" >redis_url
printf 'postgresql://dianzan:%s@postgres:5432/dianzan\n' "$postgres" >database_url
printf 'postgresql://dianzan_results:%s@postgres:5432/dianzan\n' "$results" >results_database_url
printf 'include /etc/valkey.conf\nrequirepass %s\n' "$valkey" >valkey_conf
chmod 0444 ./*
