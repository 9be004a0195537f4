// What the campaigns of campaign_unseen.h ask. Knows no account and no time.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/random.h"
#include "laboratory/prompts.h"

namespace retort::laboratory {

// What the requests of one campaign have in common: its part of the texts and its manner of speaking.
class Theme {
  public:
    Theme(const PromptLibrary& library, std::uint64_t seed, std::uint64_t number);
    [[nodiscard]] const PromptLibrary& library() const { return *library_; }
    [[nodiscard]] std::uint64_t number() const { return number_; }
    // Equal parts, equal draws, whoever asks.
    [[nodiscard]] base::RandomStream drawn(std::uint64_t part) const;
    [[nodiscard]] std::string_view entry(base::RandomStream& random) const;
    // A sentence as this campaign says it; another `voice`, other words.
    [[nodiscard]] std::string said(std::string_view sentence, std::uint64_t voice) const;

  private:
    const PromptLibrary* library_;
    std::uint64_t seed_;
    std::uint64_t number_;
    std::size_t from_;
    std::string_view donor_;
};

struct Asked {
    std::string system;
    std::string user;
};
Asked rubric_prompt(const Theme& theme, base::RandomStream& random);
std::string trace_prompt(const Theme& theme, base::RandomStream& random);
// `made`: how many tasks the campaign has had made for it and can show.
std::string bootstrap_prompt(const Theme& theme, std::uint64_t made, base::RandomStream& random);
Asked backtranslated_prompt(const Theme& theme, std::uint32_t key, bool rewrites, base::RandomStream& random);
std::string resampled_prompt(const Theme& theme, std::uint64_t question);
std::string agent_goal(const Theme& theme, std::uint64_t task);

}  // namespace retort::laboratory
