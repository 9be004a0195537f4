#include "cli/commands.h"

int main(int argc, char** argv) {
    retort::cli::Commands commands;
    retort::cli::add_pull(commands);
    retort::cli::add_chat(commands);
    retort::cli::add_serve(commands);
    retort::cli::add_keys(commands);
    retort::cli::add_guard(commands);
    retort::cli::add_collect(commands);
    retort::cli::add_problems(commands);
    retort::cli::add_curate(commands);
    retort::cli::add_cache(commands);
    retort::cli::add_distill(commands);
    retort::cli::add_eval(commands);
    retort::cli::add_export(commands);
    retort::cli::add_screen(commands);
    retort::cli::add_release(commands);
    retort::cli::add_audit(commands);
    retort::cli::add_run(commands);
    retort::cli::add_bench(commands);
    return commands.run(argc, argv);
}
