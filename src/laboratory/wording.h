// Phrases that people and templates put around real texts. Written for the laboratory.
#pragma once

#include <string>
#include <string_view>

#include "base/random.h"

namespace retort::laboratory {

// "explain this to me in simple words" and the like.
std::string habit_phrase(base::RandomStream& random);
std::string_view follow_up_phrase(base::RandomStream& random);
// A sentence of an attacker's template: what to do with the slot. `theme` picks what is wanted, `wording`
// how it is said; equal numbers, equal words. Words of `donor` make the sentences of each theme its own.
std::string scaffold_text(std::uint64_t theme, std::uint64_t wording, std::string_view donor);
// The first `count` words of a text, from word `from` on.
std::string some_words(std::string_view text, std::size_t from, std::size_t count);
// A few words exchanged or left out, as a perturbed copy.
std::string perturbed(std::string_view text, base::RandomStream& random, int changes, std::string_view donor);

}  // namespace retort::laboratory
