#!/bin/bash
# Writes docs/commands/NAME.md from the program's own --help. Usage: generate-command-docs.sh RETORT [FOLDER]
set -euo pipefail
retort=$(realpath "${1:?usage: generate-command-docs.sh RETORT [FOLDER]}")
cd "$(dirname "$0")/.."
folder=${2:-docs/commands}
mkdir -p "$folder"
rm -f "$folder"/*.md

# The names in the sections of commands: of the program, every section but the options; of a command, "Commands:".
commands_of() {
  "$retort" "$@" --help | awk -v program=$(($# == 0)) '
    /^Not in this version yet:/ { exit }
    /^[A-Z][A-Za-z ]*:$/ { on = program ? $0 != "Options:" : $0 == "Commands:"; next }
    /^$/ { on = 0 }
    on && /^  [a-z]/ { print $1 }'
}
page() {
  local file=$folder/$(IFS=-; echo "$*").md
  { echo "# retort $*"; echo; echo '```'; "$retort" "$@" --help; echo '```'; } >"$file"
}

{
  echo "# Commands"
  echo
  echo "Made from \`--help\` by \`make docs\`; the program is the truth."
  echo
} >"$folder/README.md"
for command in $(commands_of); do
  page "$command"
  echo "- [retort $command]($command.md)" >>"$folder/README.md"
  for nested in $(commands_of "$command"); do
    page "$command" "$nested"
    echo "- [retort $command $nested]($command-$nested.md)" >>"$folder/README.md"
  done
done
