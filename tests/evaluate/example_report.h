// A made-up report with every field in use: what the report's tests write, read and draw.
#pragma once

#include "evaluate/report.h"

namespace retort::evaluate {

ComparisonReport example_report();

}  // namespace retort::evaluate
