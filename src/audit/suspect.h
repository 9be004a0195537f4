// The model under suspicion, by what can be had of it: text, log-probabilities, weights. Everything is in
// text and bytes, so that its tokenizer need not be the one that the marks are in. Knows no test.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "formats/json.h"
#include "text/tokenizer.h"

namespace retort::audit {

enum class Access { text, logprobs, weights };  // each has what those before it have
std::string_view access_name(Access access);
Result<Access> access_from_name(std::string_view name);

struct Question {
    formats::Json messages = formats::Json::array();  // of a conversation: {role, content}
    std::string prompt;                               // of a plain completion instead
};

struct AnswerOptions {
    std::int64_t max_tokens = 64;
    double temperature = 0;
    std::uint64_t seed = 0;
};

struct QuestionAndAnswer {
    Question question;
    std::string answer;
};

// One token of an answer, as the suspect cuts it.
struct TokenView {
    std::int64_t offset = 0;     // in the answer, bytes
    double logprob = 0;          // of the token that stands there
    std::string first_choice{};  // bytes of the likeliest token at this place; empty: a special one
    // Σ p·ln p over the vocabulary, and the variance of ln p; of an endpoint from the likeliest tokens that
    // it names.
    double mean = 0;
    double variance = 0;
};
using AnswerView = std::vector<TokenView>;

// A row of the softmax: what the suspect would say after `tokens` of its own.
using OnRow =
    std::function<void(std::size_t text, std::int64_t position, std::span<const float> probabilities)>;

// The texts that tell a suspect's progress: done, of how many.
using OnProgress = std::function<void(std::int64_t done, std::int64_t total)>;

class Suspect {
  public:
    virtual ~Suspect() = default;
    [[nodiscard]] virtual Access access() const = 0;
    // What was looked at: hashes of files, or an address and the model's name there.
    [[nodiscard]] virtual formats::Json identity() const = 0;
    virtual Result<std::vector<std::string>> answer(std::span<const Question> questions,
                                                    const AnswerOptions& options,
                                                    const OnProgress& progress) = 0;
    virtual Result<std::vector<AnswerView>> view(std::span<const QuestionAndAnswer> texts,
                                                 const OnProgress& progress) = 0;
    // Weights only. For each text the tokens of question and answer are given to `on_row`'s caller by
    // tokens().
    virtual Result<std::vector<std::int32_t>> tokens(const QuestionAndAnswer& text,
                                                     std::int64_t& answer_start);
    virtual Status rows(std::span<const QuestionAndAnswer> texts, const OnRow& on_row,
                        const OnProgress& progress);
    [[nodiscard]] virtual const text::Tokenizer* tokenizer() const { return nullptr; }
};

// A GGUF file or a Hugging Face folder.
Result<std::unique_ptr<Suspect>> open_local_suspect(const std::filesystem::path& path);

struct EndpointOptions {
    std::string url;  // with the version: "http://host:8000/v1"
    std::string model;
    std::string api_key;
    bool logprobs = false;  // /v1/completions with echo and logprobs is there
    std::filesystem::path
        template_of;  // a model whose tokenizer and template write the prompts that are echoed
    int concurrency = 8;
};
Result<std::unique_ptr<Suspect>> open_endpoint(const EndpointOptions& options);

}  // namespace retort::audit
