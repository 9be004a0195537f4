// The subcommands of `retort guard` that make and judge laboratory traffic.
#pragma once

#include "cli/commands.h"

namespace retort::cli {

void add_guard_lab(Commands& commands, CLI::App& guard);

}  // namespace retort::cli
