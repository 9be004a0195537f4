// What others do about extraction, on the same events and tuned in the same way: each gives an account a
// score for its week, and thresholds come from the same past at the same false positives. All look at one
// account alone. Knows no cluster.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "guard/guard.h"
#include "guard/null.h"
#include "store/event_log.h"

namespace retort::laboratory {

enum class Baseline : std::uint8_t {
    rate,             // requests in the week
    prada,            // how far distances between its queries are from normal (Juuti et al. 2019)
    mmd,              // maximum mean discrepancy of its prompts' embeddings to everyone's
    near_duplicates,  // prompts that share most of their grams with one before
    count
};
inline constexpr std::size_t baselines = static_cast<std::size_t>(Baseline::count);
std::string_view baseline_name(std::size_t baseline);

using Scores = std::array<float, baselines>;

// Shapiro and Wilk's W by Royston's approximation (1992); 1: as normal as can be. 3 to 5000 values.
double shapiro_wilk(std::vector<double> values);

class BaselineTracker {
  public:
    static constexpr std::size_t dimensions = 64;
    using Embedding = std::array<float, dimensions>;

    void add(const store::Event& event);
    // Largest scores of the week so far, by account.
    [[nodiscard]] Scores scores(const store::ShortHash& account) const;
    void each(const std::function<void(const store::ShortHash&, const Scores&)>& work) const;
    void end_week();
    // Of all prompts of past weeks; a tracker of a campaign takes the honest one's.
    void set_reference(const Embedding& mean) { reference_ = mean; }
    [[nodiscard]] const Embedding& reference() const { return reference_; }

  private:
    struct Account {
        std::uint32_t requests = 0;
        std::uint32_t duplicates = 0;
        std::vector<guard::PromptSketch> recent;
        std::size_t next = 0;
        std::vector<float> distances;
        std::size_t next_distance = 0;
        std::array<double, dimensions> sum{};
        double prada = 0;
    };
    std::unordered_map<store::ShortHash, Account, guard::HashOfId> accounts_;
    Embedding reference_{};
    std::array<double, dimensions> total_{};
    double total_count_ = 0;
};

}  // namespace retort::laboratory
