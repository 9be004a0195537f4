// A teacher's API logprobs as entries of a logit cache for the student's tokenizer: matched by bytes, never
// by encoding a token's text again. Works for a teacher of any tokenizer. Knows no network.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "data/logit_cache.h"
#include "data/record.h"
#include "text/tokenizer.h"

namespace retort::data {

// The student's ids by the bytes they stand for. Special tokens are none of them.
class TokenBytes {
  public:
    explicit TokenBytes(const text::Tokenizer& tokenizer);
    [[nodiscard]] std::int32_t find(const std::string& bytes) const;  // the lowest id, −1 when there is none
    [[nodiscard]] const text::Tokenizer& tokenizer() const { return *tokenizer_; }

  private:
    const text::Tokenizer* tokenizer_;
    std::unordered_map<std::string, std::int32_t> ids_;
};

struct AlignmentSums {
    std::int64_t tokens = 0;   // of the student's that are trained
    std::int64_t aligned = 0;  // of these, where a token of the teacher's begins too
    double listed = 0;         // probability that the API listed at the aligned, summed
    double mapped = 0;         // of this, what has an id of the student's
};

// One entry set a trained target of the example. Where one of the teacher's tokens begins at the same byte,
// its listed alternatives go to the student's ids of the same bytes; the token that was in fact written goes
// to the student's target, with the probability of all the teacher's tokens that the target covers when it is
// longer. Everything else is the tail.
// The end of the answer: some APIs list its token behind the text (vLLM), others only its alternatives
// (OpenAI, `retort serve`). A token listed behind the text of an answer that ended by itself goes to the
// special token that the student is trained to end with, and an alternative of the same bytes does so
// everywhere; so does one that is spelt as a special token which the student is trained to write here.
// Where none begins, nothing is known: no ids, a tail of 1. Training takes the written token alone there.
// `count`: ids kept at most. Fails when the teacher's tokens do not spell the trained text.
Result<TokenEntries> align_logprobs(const Record& record, const Example& example, const TokenBytes& student,
                                    std::int64_t count, AlignmentSums& sums);

// Of tokens of which nothing is known.
TokenEntries unknown_entries(std::int64_t tokens);

}  // namespace retort::data
