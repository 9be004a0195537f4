// Texts for the guard's tests.
#pragma once

#include <string>

#include "base/random.h"

namespace retort::guard {

// Words of nobody else, three to eight letters each, a space behind each.
inline std::string words(base::RandomStream& random, int count) {
    std::string out;
    for (int i = 0; i < count; ++i) {
        for (std::uint64_t k = 3 + random.below(6); k > 0; --k)
            out += static_cast<char>('a' + random.below(26));
        out += ' ';
    }
    return out;
}

}  // namespace retort::guard
