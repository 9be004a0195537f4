// An answer in the making that must not repeat a protected work: text goes in as it is written, and comes out
// only when no more of a passage can leave than the limit allows. Knows nothing of servers.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "screen/index.h"

namespace retort::screen {

// Never more than `words` words, nor more than `characters` characters (0: any number), of a passage leave.
struct GuardLimits {
    std::size_t words = 49;
    std::size_t characters = 149;
};

class SpanGuard {
  public:
    SpanGuard(std::shared_ptr<const Index> index, GuardLimits limits)
        : index_(std::move(index)), limits_(limits), passages_(index_->parts.size()) {}

    // What may be sent now: all that was pushed, less an unfinished word and what would pass the limit. Once
    // that happens, blocked() holds and nothing more comes.
    std::string push(std::string_view text);
    // What is left at the end of an answer.
    std::string finish();
    [[nodiscard]] bool blocked() const { return blocked_; }

  private:
    std::string release(bool at_end);
    // Whether the passages that end with the last of `recent_` are ones that may leave.
    bool last_word_may_go();
    // The longest of a part that ends there; its words are [begin, recent_.size()) where it is known.
    struct Passage {
        std::size_t begin = 0;  // in recent_: none that ends there, or will end later, began earlier
        bool known = false;
        std::uint64_t place = 0;  // in the part, of its first word
    };
    void follow(const Part& part, Passage& passage, std::uint64_t& hash);

    std::shared_ptr<const Index> index_;
    GuardLimits limits_;
    std::string held_;                           // pushed and not let go
    std::vector<Word> recent_;                   // words let go
    std::vector<std::uint32_t> recent_letters_;  // characters of each
    std::vector<Passage> passages_;              // by part
    Words words_;
    bool blocked_ = false;
};

}  // namespace retort::screen
