// What an answer must look like, as a grammar over the model's tokens: response_format, and tool calls that
// are required. Private to this part.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "api/chat_request.h"
#include "api/error.h"
#include "generate/engine.h"
#include "grammar/token_mask.h"
#include "serve/server.h"

namespace retort::serve {

// Grammars of the last requests: clients send the same schema again and again.
class GrammarCache {
  public:
    [[nodiscard]] std::shared_ptr<grammar::TokenGrammar> find(const std::string& key) const;
    void add(std::string key, std::shared_ptr<grammar::TokenGrammar> grammar);
    void clear();

  private:
    mutable std::mutex mutex_;
    std::deque<std::pair<std::string, std::shared_ptr<grammar::TokenGrammar>>> known_;  // the newest first
};

// The bytes of each token as grammars may use them: special tokens have none, but for marks of reasoning and
// of tool calls.
std::shared_ptr<const grammar::TokenTree> token_tree_of(const text::Tokenizer& tokenizer);

// Null when the request asks for nothing of the kind. A schema keyword that is not supported is a 400 that
// names it.
api::ApiResult<std::shared_ptr<grammar::TokenGrammar>> constraint_of(const ServedModel& model,
                                                                     const api::ChatRequest& request,
                                                                     bool starts_in_reasoning,
                                                                     GrammarCache& cache);

// For one choice of one request, whose prompt has so many tokens.
generate::SamplingHook hook_of(std::shared_ptr<grammar::TokenGrammar> grammar,
                               std::vector<std::int32_t> end_tokens, std::size_t prompt_size);

}  // namespace retort::serve
