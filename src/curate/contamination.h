// What a text shares with evaluation sets: word n-grams. Private to this part.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "base/result.h"

namespace retort::curate {

class Contamination {
  public:
    explicit Contamination(std::size_t n) : n_(n) {}

    // Prompts, or records with their answers.
    Status read(const std::filesystem::path& path);
    // The first n-gram that text shares with a set.
    [[nodiscard]] std::optional<std::string> shared(std::string_view text) const;

  private:
    static std::uint64_t hash(const std::vector<std::string>& words, std::size_t begin, std::size_t count);
    void add(std::string_view text);

    std::size_t n_;
    std::unordered_set<std::uint64_t> grams_;
};

}  // namespace retort::curate
