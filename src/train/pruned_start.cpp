#include "train/pruned_start.h"

#include <algorithm>

#include "base/file.h"
#include "data/lineage.h"

namespace retort::train {

std::string pruned_and_untaught(std::filesystem::path model) {
    constexpr int most_generations = 64;
    for (int generation = 0; generation < most_generations; ++generation) {
        const auto file = data::find_lineage(model);
        if (!file) return {};
        const auto text = base::read_file(*file);
        if (!text) return {};
        const auto lineage = data::parse_lineage(*text, file->string());
        if (!lineage) return {};
        const std::string& objective = lineage->objective;
        const bool by_text = objective.empty() || objective == "ce" || objective == "grpo";
        if (!by_text) return {};
        if (!lineage->pruned.empty()) return lineage->pruned;
        const auto before = std::find_if(
            lineage->inputs.begin(), lineage->inputs.end(),
            [](const data::LineageInput& one) { return one.role == "start" || one.role == "exported-from"; });
        if (before == lineage->inputs.end()) return {};
        model = before->path;
    }
    return {};
}

}  // namespace retort::train
