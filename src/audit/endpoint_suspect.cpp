// A suspect behind an OpenAI-compatible address: its answers, and with echoed log-probabilities
// (/v1/completions, echo) what it thinks of a text.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

#include "api/chat_response.h"
#include "api/error.h"
#include "audit/prompt_text.h"
#include "base/interrupt.h"
#include "http/client.h"
#include "text/text_model.h"

namespace retort::audit {

namespace {

using formats::Json;

// Bytes before character `count` of UTF-8 text.
std::size_t bytes_before(std::string_view text, std::int64_t count) {
    std::size_t at = 0;
    for (; at < text.size(); ++at) {
        const bool begins = (static_cast<unsigned char>(text[at]) & 0xc0U) != 0x80U;
        if (begins && count-- == 0) break;
    }
    return at;
}

std::int64_t characters_in(std::string_view text) {
    return std::count_if(text.begin(), text.end(),
                         [](char c) { return (static_cast<unsigned char>(c) & 0xc0U) != 0x80U; });
}

constexpr int likeliest_asked_for = 5;  // as many as OpenAI's older API gives

// p, p·ln p and p·ln² p summed over tokens.
struct Moments {
    double mass = 0;
    double mean = 0;
    double square = 0;
    void add(double logprob, double count) {
        const double probability = count * std::exp(logprob);
        mass += probability;
        mean += probability * logprob;
        square += probability * logprob * logprob;
    }
};

// Of the tokens after the `rank` likeliest if p falls off as a power of the rank, from `least` at `rank`;
// summed by the midpoint rule over u = ln(rank / `rank`).
Moments zipf_tail(double least, double rank, double vocabulary, double exponent) {
    constexpr int steps = 48;
    const double from = std::log((rank + 0.5) / rank);
    const double width = (std::log((vocabulary + 0.5) / rank) - from) / steps;
    Moments out;
    for (int i = 0; i < steps; ++i) {
        const double u = from + (i + 0.5) * width;
        out.add(least - exponent * u, rank * std::exp(u) * width);
    }
    return out;
}

// Mean and variance of ln p under p, where only the likeliest p are known (and the token's own): the others
// fall off as fast as leaves them what is left.
void add_moments(TokenView& token, std::vector<double> known, std::int64_t vocabulary) {
    std::sort(known.begin(), known.end(), std::greater<>());
    const auto rank = std::min<std::size_t>(known.size(), likeliest_asked_for);
    const double least = known[rank - 1];
    if (std::find(known.begin(), known.end(), token.logprob) == known.end()) known.push_back(token.logprob);
    Moments all;
    for (const double logprob : known) all.add(logprob, 1);
    const double left = 1 - all.mass;
    if (left > 1e-9 && vocabulary > static_cast<std::int64_t>(known.size())) {
        const auto tail = [&](double exponent) {
            return zipf_tail(least, static_cast<double>(rank), static_cast<double>(vocabulary), exponent);
        };
        double low = 0;
        double high = 64;
        for (int i = 0; i < 40; ++i) {
            const double middle = (low + high) / 2;
            (tail(middle).mass > left ? low : high) = middle;
        }
        const Moments rest = tail(high);
        all.mean += rest.mean;
        all.square += rest.square;
    }
    token.mean = all.mean;
    token.variance = std::max(0.0, all.square - all.mean * all.mean);
}

// The members of choices[0].logprobs, as OpenAI's older API and all that follow it write them.
Result<AnswerView> read_echo(const std::string& body, const std::string& prompt, const std::string& answer,
                             std::int64_t vocabulary) {
    RETORT_TRY(const Json json, formats::parse_json(body, "the suspect's answer"));
    const Json* choices = formats::json_find(json, "choices");
    const Json* logprobs = choices != nullptr && choices->is_array() && !choices->empty()
                               ? formats::json_find(choices->front(), "logprobs")
                               : nullptr;
    if (logprobs == nullptr) {
        return fail(
            ErrorCode::unsupported,
            "the suspect echoes no log-probabilities (/v1/completions, \"echo\" with \"logprobs\"); plan the "
            "audit with --access text");
    }
    const auto list = [&](const char* name) -> const Json* {
        const Json* found = formats::json_find(*logprobs, name);
        return found != nullptr && found->is_array() ? found : nullptr;
    };
    const Json* offsets = list("text_offset");
    const Json* values = list("token_logprobs");
    const Json* tops = list("top_logprobs");
    if (offsets == nullptr || values == nullptr || offsets->size() != values->size()) {
        return fail(ErrorCode::format,
                    "the suspect's logprobs have no token_logprobs with their text_offset");
    }
    const std::int64_t start = characters_in(prompt);
    const std::int64_t end = start + characters_in(answer);
    AnswerView view;
    for (std::size_t i = 0; i < values->size(); ++i) {
        if (!(*offsets)[i].is_number_integer() || !(*values)[i].is_number()) continue;
        const auto at = (*offsets)[i].get<std::int64_t>();
        if (at < start || at >= end) continue;
        TokenView token{static_cast<std::int64_t>(bytes_before(answer, at - start)),
                        (*values)[i].get<double>()};
        if (tops != nullptr && i < tops->size() && (*tops)[i].is_object()) {
            double best = -1e300;
            std::vector<double> known;
            for (const auto& [text, logprob] : (*tops)[i].items()) {
                if (!logprob.is_number()) continue;
                known.push_back(logprob.get<double>());
                if (known.back() <= best) continue;
                best = known.back();
                token.first_choice = text;
            }
            if (!known.empty()) add_moments(token, std::move(known), vocabulary);
        }
        view.push_back(std::move(token));
    }
    return view;
}

class EndpointSuspect : public Suspect {
  public:
    EndpointSuspect(EndpointOptions options, std::unique_ptr<text::TextModel> writer)
        : options_(std::move(options)), writer_(std::move(writer)) {}

    [[nodiscard]] Access access() const override {
        return options_.logprobs ? Access::logprobs : Access::text;
    }
    [[nodiscard]] Json identity() const override {
        return {{"kind", "endpoint"}, {"url", options_.url}, {"model", options_.model}};
    }

    Result<std::vector<std::string>> answer(std::span<const Question> questions, const AnswerOptions& options,
                                            const OnProgress& progress) override {
        std::vector<std::string> out(questions.size());
        RETORT_CHECK(each(questions.size(), progress, [&](std::size_t i) -> Status {
            Json body{{"model", options_.model},
                      {"max_tokens", options.max_tokens},
                      {"temperature", options.temperature},
                      {"seed", static_cast<std::int64_t>((options.seed + i) & 0x7fffffffU)}};
            const bool chat = !questions[i].messages.empty();
            if (chat) {
                body["messages"] = questions[i].messages;
            } else {
                body["prompt"] = questions[i].prompt;
            }
            RETORT_TRY(const std::string text, post(chat ? "/chat/completions" : "/completions", body));
            RETORT_TRY(const Json json, formats::parse_json(text, "the suspect's answer"));
            const Json* choices = formats::json_find(json, "choices");
            if (choices == nullptr || !choices->is_array() || choices->empty()) {
                return fail(ErrorCode::format, "the suspect's answer has no choices");
            }
            const Json* message = chat ? formats::json_find(choices->front(), "message") : &choices->front();
            if (message == nullptr) return fail(ErrorCode::format, "the suspect's choice has no message");
            RETORT_TRY(out[i], formats::json_string(*message, chat ? "content" : "text", ""));
            if (!chat) return {};
            // Marks are in what was thought too, and the escrow holds it as the model wrote it.
            for (const char* name : {"reasoning_content", "reasoning"}) {
                const Json* thought = formats::json_find(*message, name);
                if (thought == nullptr || !thought->is_string()) continue;
                out[i] = "<think>\n" + thought->get<std::string>() + "\n</think>\n\n" + out[i];
                break;
            }
            return {};
        }));
        return out;
    }

    Result<std::vector<AnswerView>> view(std::span<const QuestionAndAnswer> texts,
                                         const OnProgress& progress) override {
        std::vector<AnswerView> out(texts.size());
        if (!options_.logprobs || !writer_) {
            return fail(ErrorCode::unsupported, "log-probabilities were not asked for: --access logprobs");
        }
        RETORT_CHECK(each(texts.size(), progress, [&](std::size_t i) -> Status {
            RETORT_TRY(const WrittenPrompt prompt, write_prompt(*writer_, texts[i].question));
            const Json body{{"model", options_.model},
                            {"prompt", prompt.text + texts[i].answer},
                            {"max_tokens", 0},
                            {"temperature", 0},
                            {"echo", true},
                            {"logprobs", likeliest_asked_for}};
            RETORT_TRY(const std::string text, post("/completions", body));
            RETORT_TRY(out[i],
                       read_echo(text, prompt.text, texts[i].answer, writer_->tokenizer.vocab_size()));
            return {};
        }));
        return out;
    }

  private:
    Result<std::string> post(std::string_view route, const Json& body) {
        http::ClientRequest request;
        request.method = "POST";
        request.url = options_.url + std::string(route);
        request.headers.add("Content-Type", "application/json");
        if (!options_.api_key.empty()) request.headers.add("Authorization", "Bearer " + options_.api_key);
        request.body = formats::write_json(body);
        request.read_seconds = 600;
        request.cancelled = base::interrupted;
        for (int attempt = 0;; ++attempt) {
            Result<http::ClientResponse> response = client_.send(request);
            const bool again = !response ? response.error().code == ErrorCode::network
                                         : response->status == 429 || response->status >= 500;
            if (again && attempt < 4 && !base::interrupted()) {
                std::this_thread::sleep_for(std::chrono::milliseconds(250 << attempt));
                continue;
            }
            if (!response) return tl::make_unexpected(response.error());
            if (response->status != 200) {
                return fail(ErrorCode::network, "{}: {} {}", request.url, response->status,
                            api::parse_error(response->status, response->body).message);
            }
            return std::move(response->body);
        }
    }

    // Some at once; the first error ends it.
    Status each(std::size_t count, const OnProgress& progress,
                const std::function<Status(std::size_t)>& one) {
        std::atomic<std::size_t> next{0};
        std::mutex mutex;
        std::size_t done = 0;
        Status status;
        std::vector<std::thread> workers;
        for (int w = 0; w < options_.concurrency; ++w) {
            workers.emplace_back([&] {
                for (std::size_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) {
                    Status ended =
                        base::interrupted() ? Status(fail(ErrorCode::cancelled, "stopped")) : one(i);
                    const std::lock_guard lock(mutex);
                    if (!ended && status) status = std::move(ended);
                    if (!status) return;
                    if (progress)
                        progress(static_cast<std::int64_t>(++done), static_cast<std::int64_t>(count));
                }
            });
        }
        for (std::thread& worker : workers) worker.join();
        return status;
    }

    EndpointOptions options_;
    std::unique_ptr<text::TextModel> writer_;
    http::Client client_;
};

}  // namespace

Result<std::unique_ptr<Suspect>> open_endpoint(const EndpointOptions& options) {
    std::unique_ptr<text::TextModel> writer;
    if (options.logprobs) {
        RETORT_TRY(text::TextModel model, text::load_text_model(options.template_of));
        writer = std::make_unique<text::TextModel>(std::move(model));
    }
    return std::unique_ptr<Suspect>(new EndpointSuspect(options, std::move(writer)));
}

}  // namespace retort::audit
