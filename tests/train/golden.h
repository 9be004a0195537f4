// The golden models and runs of tests/golden, as tests read them.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "data/packing.h"
#include "formats/safetensors.h"
#include "model/parameters.h"

namespace retort::train::golden {

inline std::string path(const std::string& name) {
    return std::string(RETORT_TEST_DATA) + "/" + name;
}

template <typename T>
std::vector<T> values(const formats::SafetensorsFile& file, const std::string& name) {
    const auto* tensor = file.find(name);
    if (tensor == nullptr) return {};
    std::vector<T> result(tensor->data.size() / sizeof(T));
    std::memcpy(result.data(), tensor->data.data(), result.size() * sizeof(T));
    return result;
}

inline model::Parameters load(const std::string& shape) {
    return model::parameters_from(model::load_weights(path("model/" + shape)).value());
}

// The golden sequences of a shape, end to end.
inline data::PackedBatch packed(const formats::SafetensorsFile& file, std::initializer_list<int> sequences) {
    data::PackedBatch batch;
    for (const int s : sequences) {
        const auto tokens = values<std::int32_t>(file, "input_ids." + std::to_string(s));
        const auto targets = values<std::int32_t>(file, "targets." + std::to_string(s));
        batch.sequence_starts.push_back(static_cast<std::int32_t>(batch.tokens.size()));
        for (std::size_t i = 0; i < tokens.size(); ++i) {
            batch.tokens.push_back(tokens[i]);
            batch.targets.push_back(targets[i]);
            batch.positions.push_back(static_cast<std::int32_t>(i));
            batch.trained_tokens += targets[i] >= 0 ? 1 : 0;
        }
    }
    batch.sequence_starts.push_back(static_cast<std::int32_t>(batch.tokens.size()));
    return batch;
}

// The batches that a recorded run took, in order: "batch.K.tokens" and so on.
inline std::vector<data::PackedBatch> batches(const formats::SafetensorsFile& file) {
    std::vector<data::PackedBatch> batches;
    for (int k = 0;; ++k) {
        const std::string prefix = "batch." + std::to_string(k) + ".";
        if (file.find(prefix + "tokens") == nullptr) return batches;
        data::PackedBatch batch;
        batch.tokens = values<std::int32_t>(file, prefix + "tokens");
        batch.targets = values<std::int32_t>(file, prefix + "targets");
        batch.positions = values<std::int32_t>(file, prefix + "positions");
        batch.sequence_starts = values<std::int32_t>(file, prefix + "sequence_starts");
        for (const std::int32_t target : batch.targets) batch.trained_tokens += target >= 0 ? 1 : 0;
        batches.push_back(std::move(batch));
    }
}

}  // namespace retort::train::golden
