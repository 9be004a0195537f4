// What a judge's verdicts do to the records that all else has left. Private to this part.
#pragma once

#include <optional>
#include <vector>

#include "base/result.h"
#include "curate/curate.h"
#include "curate/drop.h"

namespace retort::curate {

// What goes, in the order of the records, each of which gets its verdict noted.
Result<std::vector<std::optional<Drop>>> ask_judge(const Judge& judge, std::vector<data::Record>& records,
                                                   CurateReport& report);

}  // namespace retort::curate
