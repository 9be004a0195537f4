// Languages of bytes as a network of rules that call each other: what an answer may look like, byte for byte.
// Made by a GrammarBuilder, walked by an Automaton. Knows no schema, no token and no model.
#pragma once

#include <bitset>
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace retort::grammar {

using ByteSet = std::bitset<256>;

// The bytes from `low` to `high`, both included.
ByteSet byte_range(unsigned char low, unsigned char high);
ByteSet bytes_of(std::string_view bytes);

struct Grammar {
    enum class Kind : std::uint8_t {
        bytes,  // one byte of sets[value]
        call,   // all that rule `value` accepts
        split,  // nothing; goes on at either
        end,    // of the rule
    };
    struct Node {
        Kind kind = Kind::split;
        bool useful = false;  // an end can be reached from here
        std::int32_t value = -1;
        std::int32_t next = -1;
        std::int32_t other = -1;  // split only
    };
    std::vector<Node> nodes;
    std::vector<ByteSet> sets;
    std::vector<std::int32_t> rules;  // their first nodes; rule 0 is where an answer begins
};

// A piece of a grammar with one way in and one way out; used up by whatever it is put into.
struct Fragment {
    std::int32_t start = -1;
    std::int32_t end = -1;
};

class GrammarBuilder {
  public:
    GrammarBuilder();

    Fragment nothing();
    Fragment bytes(const ByteSet& set);
    Fragment literal(std::string_view text);
    Fragment sequence(const std::vector<Fragment>& parts);
    Fragment choice(const std::vector<Fragment>& parts);
    Fragment optional(Fragment part);
    Fragment star(Fragment part);
    // `make` gives a new fragment each time; max below 0: no limit.
    Fragment repeat(const std::function<Fragment()>& make, std::int64_t min, std::int64_t max);
    // Any bytes up to and with the first `mark`; any bytes that do not contain it.
    Fragment text_through(std::string_view mark);
    Fragment text_without(std::string_view mark);

    // Rules may be called before they are defined, and call themselves.
    std::int32_t new_rule();
    void define(std::int32_t rule, Fragment body);
    Fragment call(std::int32_t rule);

    // Refuses what is too large, what calls itself before it has read a byte, and what accepts no text at
    // all.
    Result<Grammar> finish(Fragment root);

  private:
    std::int32_t add(Grammar::Kind kind, std::int32_t value = -1);
    Fragment text_automaton(std::string_view mark, bool through);
    void mark_useful();
    [[nodiscard]] bool is_left_recursive() const;

    Grammar grammar_;
    bool too_large_ = false;
};

}  // namespace retort::grammar
