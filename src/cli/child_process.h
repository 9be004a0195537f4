// Runs a program with exact arguments, no shell between.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace retort::cli {

// Its standard output goes to our standard error, beside its own messages, so that ours stays clean. Waits;
// Ctrl-C is passed on. A program that is not there, one that fails and one that is killed are errors that
// name it.
Status run_child(const std::vector<std::string>& arguments);

}  // namespace retort::cli
