// Packed sequences of random tokens below 40, the same for every test.
#pragma once

#include <initializer_list>
#include <vector>

#include "base/random.h"
#include "model/transformer.h"

namespace retort::model {

struct RandomText {
    std::vector<std::int32_t> tokens;
    std::vector<std::int32_t> positions;
    std::vector<std::int32_t> starts;

    explicit RandomText(std::initializer_list<int> lengths) {
        base::RandomStream random(5, 5);
        for (const int length : lengths) {
            starts.push_back(static_cast<std::int32_t>(tokens.size()));
            for (int i = 0; i < length; ++i) {
                tokens.push_back(static_cast<std::int32_t>(random.below(40)));
                positions.push_back(i);
            }
        }
        starts.push_back(static_cast<std::int32_t>(tokens.size()));
    }
    [[nodiscard]] std::vector<TokenBatch> batches() const { return {{tokens, positions, starts}}; }
};

}  // namespace retort::model
