#!/bin/bash
# A virtual environment with the packages from outside that end-to-end tests drive the program with: the official
# OpenAI client. Usage: prepare-e2e-python.sh FOLDER. Does nothing when it is there.
set -euo pipefail
folder=${1:?usage: prepare-e2e-python.sh FOLDER}
"$folder/bin/python" -c 'import openai' 2>/dev/null && exit 0
rm -rf "$folder"
python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check 'openai>=1,<4'
