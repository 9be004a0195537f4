// Whether a model was pruned and not yet taught by its teacher's distribution, as the lineage beside it and
// beside what it was made from tells.
#pragma once

#include <filesystem>
#include <string>

namespace retort::train {

// What is left of what it was cut from ("18 of 30 layers"); empty where nothing was cut, where a training
// with a teacher's distribution followed, and where no lineage tells.
std::string pruned_and_untaught(std::filesystem::path model);

}  // namespace retort::train
