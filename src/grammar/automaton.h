// Walks a grammar byte by byte. The sets of places where the grammar may be after a text are states with
// numbers, made as they are met, so that walking the same way again is a look-up in a table.
#pragma once

#include <array>
#include <cstdint>
#include <unordered_map>
#include <utility>
#include <vector>

#include "grammar/grammar.h"

namespace retort::grammar {

class Automaton {
  public:
    static constexpr std::int32_t dead = -1;

    explicit Automaton(Grammar grammar);

    [[nodiscard]] std::int32_t start() const { return start_; }
    // The state after one more byte; `dead` when no text of the grammar goes on like this. Not thread-safe.
    std::int32_t step(std::int32_t state, unsigned char byte);
    // Whether the text so far is whole, and whether more may follow.
    [[nodiscard]] bool accepts(std::int32_t state) const {
        return state >= 0 && states_[static_cast<std::size_t>(state)].accepts;
    }
    [[nodiscard]] bool goes_on(std::int32_t state) const {
        return state >= 0 && !states_[static_cast<std::size_t>(state)].places.empty();
    }
    [[nodiscard]] std::size_t state_count() const { return states_.size(); }

  private:
    // Where to go on when the rules called so far have ended.
    struct Frame {
        std::int32_t node = -1;
        std::int32_t parent = -1;
        std::int32_t depth = 0;
    };
    using Place = std::pair<std::int32_t, std::int32_t>;  // a node of kind bytes, a frame (−1: none)
    struct State {
        std::vector<Place> places;  // sorted
        bool accepts = false;
        std::vector<std::int32_t> next;  // by class of byte; unknown: −2
    };

    void add_places(Place from, State& state);
    std::int32_t state_of(State state);
    std::int32_t frame_of(std::int32_t node, std::int32_t parent);

    Grammar grammar_;
    std::array<std::uint8_t, 256> class_of_{};  // bytes that no set tells apart share one
    std::vector<unsigned char> class_byte_;     // one byte of each class
    std::vector<Frame> frames_;
    std::unordered_map<std::uint64_t, std::int32_t> frame_ids_;
    std::vector<State> states_;
    std::unordered_multimap<std::uint64_t, std::int32_t> state_ids_;  // by hash
    std::int32_t start_ = dead;
};

}  // namespace retort::grammar
