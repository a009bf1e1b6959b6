#!/bin/sh
# Runs every test in tests/. A project whose tests all wait is not done.
cd "$(dirname "$0")" || exit 1
ran=0
for file in tests/*.sh; do
  [ -e "$file" ] || continue
  ran=$((ran + 1))
  if ! sh "$file"; then
    echo "FAILED $file"
    exit 1
  fi
  echo "ok     $file"
done
if [ "$ran" -eq 0 ]; then
  echo "FAILED no test is in tests/; these wait: $(ls waiting)"
  exit 1
fi
echo "$ran passed"
