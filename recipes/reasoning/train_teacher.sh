#!/bin/sh
# Trains the reasoning teacher from nothing on worked problems: about 25 minutes of one core. Stopped, it goes on
# where it was. Usage: train_teacher.sh FOLDER [RETORT]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=$1
retort=${2:-retort}
mkdir -p "$folder"
stage() { # NAME SEED START...: a pass over problems that no other stage has
    name=$1
    seed=$2
    shift 2
    [ -e "$folder/$name/model/model.safetensors" ] && return
    "$retort" problems --count 100000 --seed "$seed" --worked --output "$folder/$name.jsonl"
    "$retort" distill --threads 1 --dtype bf16 --objective ce --records "$folder/$name.jsonl" --row-length 512 \
        --rows-per-step 4 --rows-per-micro-batch 4 --weight-decay 0.05 --checkpoint-seconds 30 \
        --output "$folder/$name" "$@"
}
stage first 1 --fresh "$here/teacher.toml" --tokenizer "$here/tokenizer" --epochs 0.5 --learning-rate 1.5e-3
stage second 2 --student "$folder/first/model" --epochs 0.7 --learning-rate 1.2e-3
"$retort" export "$folder/second/model" --format folder --type bf16 --output "$folder/teacher"
