// Prompts of attackers after published ways of making training data. Knows no detector.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "laboratory/prompts.h"
#include "laboratory/traffic.h"

namespace retort::laboratory {

struct PublishedPrompt {
    std::string text;
    bool follow_up = false;
};
// `pool` from `from` on is the campaign's part of the texts, `slot` one of it; `theme` is the campaign's.
PublishedPrompt published_prompt(const PromptLibrary& library, Attack family, std::uint64_t theme,
                                 std::string_view slot, const std::vector<std::string_view>& pool,
                                 std::size_t from, base::RandomStream& random);

}  // namespace retort::laboratory
