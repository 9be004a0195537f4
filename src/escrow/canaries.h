// Canaries: prompts that nobody asks by chance, whose planted answers hold a string drawn among decoys that
// are never served. Knows no model.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace retort::escrow {

struct Canary {
    std::string id;
    std::string prompt;
    std::string answer;                   // with "{}" where the string stands
    std::vector<std::string> candidates;  // all drawn alike
    std::int64_t planted = 0;             // which of them is served

    [[nodiscard]] std::string answer_with(std::string_view candidate) const;
    [[nodiscard]] std::string planted_answer() const {
        return answer_with(candidates[static_cast<std::size_t>(planted)]);
    }
};

// With `decoys` + 1 candidates each, by the system's random numbers.
std::vector<Canary> make_canaries(std::int64_t count, std::int64_t decoys);
std::string write_canaries(const std::vector<Canary>& canaries);  // JSON
Result<std::vector<Canary>> parse_canaries(std::string_view text, std::string_view name);
// Null when the prompt (but for case, spaces and punctuation) is none of theirs.
const Canary* find_canary(const std::vector<Canary>& canaries, std::string_view prompt);

}  // namespace retort::escrow
