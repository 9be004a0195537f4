// Near duplicates among many texts: MinHash over word 5-grams, candidates by locality-sensitive hashing, each
// candidate confirmed by its exact Jaccard similarity. Deterministic; knows nothing of records.
#pragma once

#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace retort::curate {

// Hashes of the word n-grams of a text, sorted, each once; a text of fewer words is one shingle, an empty one
// none.
std::vector<std::uint64_t> shingles(std::string_view text, std::size_t n = 5);
double jaccard(const std::vector<std::uint64_t>& a, const std::vector<std::uint64_t>& b);

// 32 bands of 4 rows: a pair of similarity s is a candidate with probability 1 − (1 − s⁴)³², which is 0.9999
// at 0.7 and 0.87 at 0.5; candidates below the threshold are turned down by their exact similarity.
class NearDuplicates {
  public:
    static constexpr std::size_t bands = 32;
    static constexpr std::size_t rows = 4;

    explicit NearDuplicates(double threshold) : threshold_(threshold) {}

    struct Match {
        std::int64_t index = -1;  // of the earliest text that is like it; -1: none
        double similarity = 0;
    };
    // Looks among the texts added so far; a text that matches is not added itself, so that of a chain of
    // likes only what is like a kept text goes.
    Match add(std::string_view text, std::int64_t index);

  private:
    double threshold_;
    std::unordered_map<std::uint64_t, std::vector<std::size_t>> buckets_;
    std::vector<std::vector<std::uint64_t>> kept_;
    std::vector<std::int64_t> indices_;
};

}  // namespace retort::curate
