// A suspect whose weights are here: a forward pass gives every row, the engine writes its answers.
#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <mutex>

#include "audit/prompt_text.h"
#include "base/hash.h"
#include "base/interrupt.h"
#include "base/parallel.h"
#include "generate/text_generation.h"
#include "generate/vocabulary.h"
#include "model/transformer.h"
#include "tensor/gemm.h"
#include "text/text_model.h"

namespace retort::audit {

namespace {

constexpr std::int64_t batch_tokens = 2048;
constexpr std::int64_t tile_rows = 64;

class LocalSuspect : public Suspect {
  public:
    LocalSuspect(text::TextModel text, const model::Weights& weights, formats::Json identity)
        : text_(std::move(text)),
          parameters_(model::parameters_from(weights)),
          identity_(std::move(identity)) {}

    [[nodiscard]] Access access() const override { return Access::weights; }
    [[nodiscard]] formats::Json identity() const override { return identity_; }
    [[nodiscard]] const text::Tokenizer* tokenizer() const override { return &text_.tokenizer; }

    Result<std::vector<std::string>> answer(std::span<const Question> questions, const AnswerOptions& options,
                                            const OnProgress& progress) override;
    Result<std::vector<AnswerView>> view(std::span<const QuestionAndAnswer> texts,
                                         const OnProgress& progress) override;
    Result<std::vector<std::int32_t>> tokens(const QuestionAndAnswer& text,
                                             std::int64_t& answer_start) override {
        RETORT_TRY(const WrittenPrompt prompt, write_prompt(text_, text.question));
        std::vector<std::int32_t> out = encode_prompt(text_, prompt);
        answer_start = static_cast<std::int64_t>(out.size());
        const std::vector<std::int32_t> answer = encode_plain(text_.tokenizer, text.answer);
        out.insert(out.end(), answer.begin(), answer.end());
        const auto most = static_cast<std::size_t>(parameters_.layout.config.context_length);
        if (out.size() > most) out.resize(most);
        return out;
    }
    Status rows(std::span<const QuestionAndAnswer> texts, const OnRow& on_row,
                const OnProgress& progress) override;

  private:
    text::TextModel text_;
    model::Parameters parameters_;
    formats::Json identity_;
    std::unique_ptr<model::Transformer> transformer_;
    std::unique_ptr<generate::Engine> engine_;
};

// Rows are probabilities; on_row may be called from several threads, for different texts or positions.
Status LocalSuspect::rows(std::span<const QuestionAndAnswer> texts, const OnRow& on_row,
                          const OnProgress& progress) {
    const model::ParameterLayout& layout = parameters_.layout;
    const std::int64_t vocab = layout.config.vocab_size;
    const std::int64_t width = layout.config.hidden_size;
    const std::int64_t most = std::max(batch_tokens, layout.config.context_length);
    if (!transformer_) {
        transformer_ =
            std::make_unique<model::Transformer>(layout, most, model::TransformerOptions{false, false});
    }
    tensor::Buffer<float> gathered(tile_rows * width);
    tensor::Buffer<float> logits(tile_rows * vocab);
    std::size_t next = 0;
    while (next < texts.size()) {
        if (base::interrupted()) return fail(ErrorCode::cancelled, "stopped");
        std::vector<std::int32_t> tokens;
        std::vector<std::int32_t> positions;
        std::vector<std::int32_t> starts{0};
        struct Row {
            std::size_t text;
            std::int64_t position;  // of the token that the row speaks of
            std::int64_t at;        // in the batch
        };
        std::vector<Row> wanted;
        while (next < texts.size()) {
            std::int64_t start = 0;
            RETORT_TRY(const std::vector<std::int32_t> one, this->tokens(texts[next], start));
            if (!tokens.empty() && static_cast<std::int64_t>(tokens.size() + one.size()) > most) break;
            const auto first = static_cast<std::int64_t>(tokens.size());
            for (std::size_t i = 0; i < one.size(); ++i) {
                tokens.push_back(one[i]);
                positions.push_back(static_cast<std::int32_t>(i));
            }
            for (std::int64_t i = std::max<std::int64_t>(start, 1); i < static_cast<std::int64_t>(one.size());
                 ++i) {
                wanted.push_back({next, i, first + i - 1});
            }
            starts.push_back(static_cast<std::int32_t>(tokens.size()));
            ++next;
        }
        if (tokens.empty()) continue;
        const std::span<const float> hidden =
            transformer_->forward({parameters_.values.data(), nullptr}, {tokens, positions, starts});
        for (std::size_t row = 0; row < wanted.size(); row += tile_rows) {
            const auto count =
                std::min<std::int64_t>(tile_rows, static_cast<std::int64_t>(wanted.size() - row));
            for (std::int64_t i = 0; i < count; ++i) {
                const float* from = hidden.data() + wanted[row + static_cast<std::size_t>(i)].at * width;
                std::copy(from, from + width, gathered.data() + i * width);
            }
            tensor::gemm(false, true, count, vocab, width, 1.0F, gathered.data(), width,
                         parameters_.values.data() + layout.head, width, 0.0F, logits.data(), vocab);
            base::parallel_each(count, [&](std::int64_t i) {
                const std::span<float> one(logits.data() + i * vocab, static_cast<std::size_t>(vocab));
                const double sum = generate::exponentials(one, generate::largest_logit(one).value, 1.0F, one);
                const auto scale = static_cast<float>(1 / sum);
                for (float& value : one) value *= scale;
                const Row& which = wanted[row + static_cast<std::size_t>(i)];
                on_row(which.text, which.position, one);
            });
        }
        if (progress) progress(static_cast<std::int64_t>(next), static_cast<std::int64_t>(texts.size()));
    }
    return {};
}

Result<std::vector<AnswerView>> LocalSuspect::view(std::span<const QuestionAndAnswer> texts,
                                                   const OnProgress& progress) {
    std::vector<AnswerView> out(texts.size());
    std::vector<std::vector<std::int32_t>> known(texts.size());
    std::vector<std::int64_t> starts(texts.size());
    for (std::size_t i = 0; i < texts.size(); ++i) {
        RETORT_TRY(known[i], tokens(texts[i], starts[i]));
        std::int64_t offset = 0;
        for (auto at = static_cast<std::size_t>(starts[i]); at < known[i].size(); ++at) {
            out[i].push_back({offset, 0});
            offset += static_cast<std::int64_t>(text_.tokenizer.token_bytes(known[i][at]).size());
        }
    }
    RETORT_CHECK(rows(
        texts,
        [&](std::size_t text, std::int64_t position, std::span<const float> p) {
            TokenView& token = out[text][static_cast<std::size_t>(position - starts[text])];
            const auto likelihood =
                p[static_cast<std::size_t>(known[text][static_cast<std::size_t>(position)])];
            token.logprob = std::log(std::max(static_cast<double>(likelihood), 1e-30));
            const auto best = static_cast<std::int32_t>(std::max_element(p.begin(), p.end()) - p.begin());
            if (!text_.tokenizer.is_special(best)) token.first_choice = text_.tokenizer.token_bytes(best);
            double square = 0;
            for (const float value : p) {
                if (value <= 0) continue;
                const double log = std::log(static_cast<double>(value));
                token.mean += static_cast<double>(value) * log;
                square += static_cast<double>(value) * log * log;
            }
            token.variance = std::max(0.0, square - token.mean * token.mean);
        },
        progress));
    return out;
}

Result<std::vector<std::string>> LocalSuspect::answer(std::span<const Question> questions,
                                                      const AnswerOptions& options,
                                                      const OnProgress& progress) {
    if (!engine_) {
        generate::EngineOptions engine;
        engine.max_sequences = 32;
        RETORT_TRY(engine_, generate::Engine::create(model::weights_view(parameters_), engine));
    }
    std::vector<std::string> out(questions.size());
    std::mutex mutex;
    std::condition_variable ended;
    std::size_t running = 0;
    std::size_t done = 0;
    Status status;
    for (std::size_t i = 0; i < questions.size(); ++i) {
        RETORT_TRY(const WrittenPrompt prompt, write_prompt(text_, questions[i]));
        generate::TextRequest request;
        request.tokens.prompt = encode_prompt(text_, prompt);
        const std::int64_t room =
            engine_->context_length() - static_cast<std::int64_t>(request.tokens.prompt.size());
        if (room < 1 || request.tokens.prompt.empty()) continue;
        request.tokens.max_tokens = std::min(options.max_tokens, room);
        request.tokens.stop_tokens = text_.end_of_turn_tokens;
        request.tokens.sampling.temperature = static_cast<float>(options.temperature);
        request.tokens.sampling.seed = options.seed + i;
        {
            std::unique_lock lock(mutex);
            ended.wait(lock, [&] { return running < 64; });
            ++running;
        }
        auto submitted = generate::submit_text(
            *engine_, text_.tokenizer, std::move(request),
            [&out, i](const generate::TextDelta& delta) {
                out[i] += delta.content;
                return !base::interrupted();
            },
            [&](const Result<generate::TextCompletion>& result) {
                const std::lock_guard lock(mutex);
                if (!result && status) status = tl::make_unexpected(result.error());
                --running;
                ++done;
                ended.notify_all();
            });
        if (!submitted) {
            std::unique_lock lock(mutex);
            --running;
            ended.wait(lock, [&] { return running == 0; });
            return tl::make_unexpected(submitted.error());
        }
        if (progress) progress(static_cast<std::int64_t>(i), static_cast<std::int64_t>(questions.size()));
    }
    std::unique_lock lock(mutex);
    ended.wait(lock, [&] { return running == 0; });
    if (base::interrupted()) return fail(ErrorCode::cancelled, "stopped");
    if (!status) return tl::make_unexpected(status.error());
    return out;
}

}  // namespace

Result<std::unique_ptr<Suspect>> open_local_suspect(const std::filesystem::path& path) {
    RETORT_TRY(text::TextModel text, text::load_text_model(path));
    RETORT_TRY(const model::Weights weights, model::load_weights(path));
    std::filesystem::path file = path;
    std::error_code error;
    if (std::filesystem::is_directory(path, error)) file = path / "model.safetensors";
    formats::Json identity{{"kind", "weights"}, {"file", file.filename().string()}};
    if (std::filesystem::exists(file, error)) {
        RETORT_TRY(const base::Sha256 hash, base::sha256_file(file));
        identity["sha256"] = base::to_hex(hash);
    }
    identity["tokenizer"] = text.tokenizer.hash();
    return std::unique_ptr<Suspect>(new LocalSuspect(std::move(text), weights, std::move(identity)));
}

}  // namespace retort::audit
