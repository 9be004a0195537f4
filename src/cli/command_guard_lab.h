// The subcommands of `retort guard` that make and judge laboratory traffic and explain clusters; its
// benchmark.
#pragma once

#include "cli/commands.h"

namespace retort::cli {

void add_guard_lab(Commands& commands, CLI::App& guard);
void add_guard_explain(Commands& commands, CLI::App& guard);
void add_bench_guard(Commands& commands, CLI::App& bench);

}  // namespace retort::cli
