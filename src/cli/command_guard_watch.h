// The subcommands of `retort guard` that follow a server and act on its store.
#pragma once

#include "cli/commands.h"

namespace retort::cli {

void add_guard_watch(Commands& commands, CLI::App& guard);

}  // namespace retort::cli
