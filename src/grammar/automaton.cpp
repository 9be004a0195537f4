#include "grammar/automaton.h"

#include <algorithm>
#include <unordered_set>

namespace retort::grammar {

namespace {

using Kind = Grammar::Kind;
constexpr std::int32_t unknown = -2;
constexpr std::int32_t max_depth = 200;        // of rules within rules: deeper is not accepted
constexpr std::size_t max_states = 1'000'000;  // what leads past that is not accepted either

std::uint64_t key_of(std::int32_t high, std::int32_t low) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(high)) << 32U |
           static_cast<std::uint32_t>(low);
}

std::uint64_t mixed(std::uint64_t hash, std::uint64_t value) {
    hash ^= value + 0x9e3779b97f4a7c15ULL + (hash << 6U) + (hash >> 2U);
    return hash * 0xff51afd7ed558ccdULL;
}

}  // namespace

Automaton::Automaton(Grammar grammar) : grammar_(std::move(grammar)) {
    // Bytes with the same membership in every set share a class.
    std::unordered_map<std::uint64_t, std::uint8_t> classes;
    for (unsigned byte = 0; byte < 256; ++byte) {
        std::uint64_t key = 1;
        for (const ByteSet& set : grammar_.sets) key = mixed(key, set.test(byte) ? 1 : 0);
        const auto [it, is_new] = classes.try_emplace(key, static_cast<std::uint8_t>(class_byte_.size()));
        if (is_new) class_byte_.push_back(static_cast<unsigned char>(byte));
        class_of_[byte] = it->second;
    }
    State first;
    add_places({grammar_.rules[0], -1}, first);
    start_ = state_of(std::move(first));
}

std::int32_t Automaton::frame_of(std::int32_t node, std::int32_t parent) {
    const auto [it, is_new] =
        frame_ids_.try_emplace(key_of(node, parent), static_cast<std::int32_t>(frames_.size()));
    if (is_new) {
        frames_.push_back(
            {node, parent, parent < 0 ? 1 : frames_[static_cast<std::size_t>(parent)].depth + 1});
    }
    return it->second;
}

// All that can be reached without reading a byte.
void Automaton::add_places(Place from, State& state) {
    std::vector<Place> todo{from};
    std::unordered_set<std::uint64_t> seen;
    while (!todo.empty()) {
        const auto [at, frame] = todo.back();
        todo.pop_back();
        if (at < 0) continue;
        const Grammar::Node& node = grammar_.nodes[static_cast<std::size_t>(at)];
        if (!node.useful || !seen.insert(key_of(at, frame)).second) continue;
        switch (node.kind) {
            case Kind::bytes:
                state.places.emplace_back(at, frame);
                break;
            case Kind::split:
                todo.emplace_back(node.next, frame);
                todo.emplace_back(node.other, frame);
                break;
            case Kind::call: {
                // A call whose rule would end at once after it needs no frame of its own: lists do not pile
                // up.
                std::int32_t back = node.next;
                while (grammar_.nodes[static_cast<std::size_t>(back)].kind == Kind::split &&
                       grammar_.nodes[static_cast<std::size_t>(back)].other < 0 &&
                       grammar_.nodes[static_cast<std::size_t>(back)].next >= 0) {
                    back = grammar_.nodes[static_cast<std::size_t>(back)].next;
                }
                const bool is_tail = grammar_.nodes[static_cast<std::size_t>(back)].kind == Kind::end;
                const std::int32_t inner = is_tail ? frame : frame_of(back, frame);
                if (inner >= 0 && frames_[static_cast<std::size_t>(inner)].depth > max_depth) break;
                todo.emplace_back(grammar_.rules[static_cast<std::size_t>(node.value)], inner);
                break;
            }
            case Kind::end:
                if (frame < 0) {
                    state.accepts = true;
                } else {
                    const Frame& back = frames_[static_cast<std::size_t>(frame)];
                    todo.emplace_back(back.node, back.parent);
                }
                break;
        }
    }
}

std::int32_t Automaton::state_of(State state) {
    std::sort(state.places.begin(), state.places.end());
    state.places.erase(std::unique(state.places.begin(), state.places.end()), state.places.end());
    if (state.places.empty() && !state.accepts) return dead;
    std::uint64_t hash = state.accepts ? 1 : 0;
    for (const auto& [node, frame] : state.places) {
        hash = mixed(hash, key_of(node, frame));
    }
    const auto [low, high] = state_ids_.equal_range(hash);
    for (auto it = low; it != high; ++it) {
        const State& known = states_[static_cast<std::size_t>(it->second)];
        if (known.accepts == state.accepts && known.places == state.places) return it->second;
    }
    if (states_.size() >= max_states) return dead;
    const auto id = static_cast<std::int32_t>(states_.size());
    state.next.assign(class_byte_.size(), unknown);
    states_.push_back(std::move(state));
    state_ids_.emplace(hash, id);
    return id;
}

std::int32_t Automaton::step(std::int32_t state, unsigned char byte) {
    if (state < 0) return dead;
    const std::size_t column = class_of_[byte];
    const std::int32_t known = states_[static_cast<std::size_t>(state)].next[column];
    if (known != unknown) return known;
    State after;
    for (const auto& [node, frame] : states_[static_cast<std::size_t>(state)].places) {
        const Grammar::Node& at = grammar_.nodes[static_cast<std::size_t>(node)];
        if (grammar_.sets[static_cast<std::size_t>(at.value)].test(byte)) {
            add_places({at.next, frame}, after);
        }
    }
    const std::int32_t next = state_of(std::move(after));
    states_[static_cast<std::size_t>(state)].next[column] = next;
    return next;
}

}  // namespace retort::grammar
