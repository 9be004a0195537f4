// What the guard keeps of one account, in a bounded number of bytes: counts and small sketches of the current
// window, and since when it has been seen. Knows no other account; clusters are made in guard/clusters.h.
#pragma once

#include <array>
#include <cstdint>

#include "guard/sketch.h"
#include "store/event_log.h"

namespace retort::guard {

// Times are Unix milliseconds, shares are 0–1.

// The most frequent of many, in fixed room (Metwally et al. 2005, space-saving): a count is exact until the
// table is full, and then too high by at most the smallest in it.
struct GramTable {
    static constexpr std::size_t size = 24;
    std::array<std::uint32_t, size> grams{};
    std::array<std::uint16_t, size> counts{};
    void add(std::uint32_t gram);
};

// The smallest distinct hashes: how many distinct ones there were, and which two accounts share (KMV,
// Bar-Yossef et al. 2002). Hashes are uniform; 0 is an empty place.
template <std::size_t Size>
struct SmallestHashes {
    std::array<std::uint32_t, Size> values{};  // ascending, then zeros
    void add(std::uint32_t hash) {
        if (hash == 0) hash = 1;
        std::size_t used = Size;
        while (used > 0 && values[used - 1] == 0) --used;
        if (used == Size && hash >= values[Size - 1]) return;
        std::size_t at = 0;
        while (at < used && values[at] < hash) ++at;
        if (at < used && values[at] == hash) return;
        for (std::size_t i = std::min(used, Size - 1); i > at; --i) values[i] = values[i - 1];
        values[at] = hash;
    }
    [[nodiscard]] double distinct() const {
        std::size_t used = 0;
        while (used < Size && values[used] != 0) ++used;
        if (used < Size) return static_cast<double>(used);
        return static_cast<double>(Size - 1) * 4294967296.0 / static_cast<double>(values[Size - 1]);
    }
};

// Of the current window; all zero at its beginning.
struct WindowStats {
    static constexpr std::size_t pool_size = 24;
    static constexpr std::size_t sample_size = 24;
    std::uint32_t requests = 0;
    std::uint32_t single = 0;   // without an earlier answer
    std::uint32_t elicits = 0;  // asking for reasoning
    std::uint32_t logprobs = 0;
    std::uint32_t biased = 0;  // with a bias map
    std::uint32_t biased_logprobs = 0;
    std::uint32_t refused = 0;
    std::uint64_t completion_tokens = 0;
    GramTable grams;
    SmallestHashes<pool_size> pool;      // of the user's texts
    SmallestHashes<sample_size> sample;  // of all grams: what two accounts share of theirs, repeated or not
    SmallestHashes<8> bias_maps;         // of the requests whose conversation is `biased_prompt`
    std::uint64_t biased_prompt = 0;     // the majority's (Boyer & Moore 1981)
    std::uint32_t biased_lead = 0;
    std::uint64_t parameters = 0;  // the majority's
    std::uint32_t parameters_lead = 0;
    std::uint64_t topics = 0;              // linear counting in 64 bits
    std::array<std::uint64_t, 3> hours{};  // a bit for each hour of the window with a request; 168 of them
    std::int64_t last_ms = 0;
    float gap_sum = 0;  // of ln(1 + gap in seconds)
    float gap_squares = 0;
};

struct AccountState {
    store::ShortHash id{};
    std::int64_t first_ms = 0;
    std::uint64_t payment = 0;  // of a keyed hash; 0: not known
    std::uint64_t address = 0;  // the last seen
    std::uint64_t client = 0;   // of the client program's name, likewise
    std::uint16_t plan = 0;
    std::uint8_t level = 0;      // the strongest verdict that stands: Level
    std::uint8_t in_window = 0;  // has been seen in this window
    float best_cluster = 0;      // the largest scores of this window
    float best_customer = 0;
    float best_account = 0;
    float best_logits = 0;
    WindowStats window;
};

std::uint64_t first_bytes(const store::ShortHash& hash);
// `sketch` null: the event carries none. `hour`: since the window began.
void add_event(AccountState& account, const store::Event& event, const PromptSketch* sketch,
               std::size_t hour);

// Ready-made quantities of an account, for scoring.
struct AccountFacts {
    double requests = 0;
    double distinct = 0;  // texts
    double distinct_share = 0;
    double single_share = 0;
    double elicits_share = 0;
    double coverage = 0;    // the share of requests that hold its most frequent gram
    double topics = 0;      // how many of them for each distinct text: 1 is wide, 0 narrow
    double constancy = 0;   // at least this share has the majority's parameters
    double regularity = 0;  // of the spacing: 1 / (1 + variance of ln gaps)
};
AccountFacts facts_of(const WindowStats& window);
double distinct_texts(const WindowStats& window);  // of the facts this alone
double account_score(const AccountFacts& facts);
double logits_score(const WindowStats& window);

}  // namespace retort::guard
