// Token ids, as they are sampled, to text that a client can be sent: whole characters only. What push() and
// finish() return, put together, is Tokenizer::decode() of all the ids, but for one case: of a character that
// is broken within <0xNN> tokens, the good bytes beside it are kept.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "text/tokenizer.h"

namespace retort::text {

class StreamingDetokenizer {
  public:
    explicit StreamingDetokenizer(Tokenizer tokenizer, bool skip_special = true);

    // The text that has become complete, often empty. An ill-formed part is U+FFFD.
    std::string push(std::int32_t id);
    // What was held back: the beginning of a character that never ended is U+FFFD.
    std::string finish();

  private:
    Tokenizer tokenizer_;
    bool skip_special_;
    bool at_start_ = true;
    std::string pending_;
};

}  // namespace retort::text
