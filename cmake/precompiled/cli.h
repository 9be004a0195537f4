// As parts.h, for the commands.
#include "parts.h"

#include <CLI/CLI.hpp>
