// Commands of `retort audit` that stand alone.
#pragma once

#include "cli/commands.h"

namespace retort::cli {

void add_audit_power(Commands& commands, CLI::App& audit);
void add_audit_lineage(Commands& commands, CLI::App& audit);

}  // namespace retort::cli
