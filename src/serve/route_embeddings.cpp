// POST /v1/embeddings: of each input, the mean over its tokens of the last layer's normed output, of
// length 1.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <mutex>

#include "api/embeddings.h"
#include "serve/routes.h"

namespace retort::serve {

namespace {

void normalise(std::vector<float>& vector) {
    double squares = 0;
    for (const float value : vector) squares += static_cast<double>(value) * static_cast<double>(value);
    const double scale = squares > 0 ? 1 / std::sqrt(squares) : 0;
    for (float& value : vector) value = static_cast<float>(static_cast<double>(value) * scale);
}

// The inputs of one request, which the engine takes side by side.
class EmbeddingJob : public std::enable_shared_from_this<EmbeddingJob> {
  public:
    EmbeddingJob(const Service& service, Call& call, std::shared_ptr<const ServedModel> model,
                 std::size_t count, bool base64)
        : metrics_(service.metrics),
          active_(service.active),
          writer_(call.writer),
          headers_(std::move(call.headers)),
          model_(std::move(model)),
          ticket_(std::move(call.ticket)),
          start_(call.start),
          unfinished_(count) {
        response_.model = service.options.model_id;
        response_.embeddings.resize(count);
        response_.base64 = base64;
        active_.enter();
    }
    ~EmbeddingJob() { active_.leave(); }
    EmbeddingJob(const EmbeddingJob&) = delete;
    EmbeddingJob& operator=(const EmbeddingJob&) = delete;

    void start(std::vector<std::vector<std::int32_t>> inputs) {
        writer_->on_gone([weak = weak_from_this()] {
            if (const auto self = weak.lock()) self->cancel();
        });
        for (std::size_t i = 0; i < inputs.size(); ++i) {
            generate::Request request;
            request.prompt = std::move(inputs[i]);
            request.max_tokens = 0;
            request.embed = true;
            auto id = model_->engine->submit(
                std::move(request), [](const generate::TokenEvent&) { return true; },
                [self = shared_from_this(), i](Result<generate::Completion> done) {
                    self->on_done(i, std::move(done));
                });
            if (!id) return fail_with(api::invalid_value("input", id.error().message));
            {
                const std::lock_guard lock(mutex_);
                ids_.push_back(*id);
            }
            if (cancelled_) model_->engine->cancel(*id);
        }
    }

  private:
    void cancel() {
        cancelled_ = true;
        std::vector<std::uint64_t> ids;
        {
            const std::lock_guard lock(mutex_);
            ids = ids_;
        }
        for (const std::uint64_t id : ids) model_->engine->cancel(id);
    }

    // Of the inputs that are done, also when the client has gone meanwhile.
    void count_use() {
        TokenUse use;
        use.prompt_tokens = response_.prompt_tokens;
        ticket_->count(use);
    }

    void fail_with(const api::ApiError& error) {
        {
            const std::lock_guard lock(mutex_);
            if (std::exchange(failed_, true)) return;
            metrics_.count(cancelled_ ? Outcome::abort : Outcome::error);
            if (ticket_) {
                count_use();
                ticket_->end(cancelled_ ? RequestEnd::aborted : RequestEnd::failed, error.status);
            }
            tell_processing_time(headers_, start_);
            writer_->send(error.status, headers_, api::write_error(error));
        }
        cancel();
    }

    void on_done(std::size_t index, Result<generate::Completion> done) {
        if (!done) return fail_with(api::server_error(done.error().message));
        if (done->finish_reason == generate::FinishReason::cancelled) {
            return fail_with(api::unavailable("The server stopped before the answer was complete."));
        }
        const std::lock_guard lock(mutex_);
        normalise(done->embedding);
        response_.embeddings[index] = std::move(done->embedding);
        response_.prompt_tokens += done->prompt_tokens;
        metrics_.queue_time.observe(done->queue_seconds);
        if (--unfinished_ > 0 || failed_) return;
        metrics_.count(Outcome::stop);
        if (ticket_) {
            count_use();
            ticket_->began();
            ticket_->end(RequestEnd::finished, 200);
        }
        metrics_.request_latency.observe(base::monotonic_seconds() - start_);
        tell_processing_time(headers_, start_);
        writer_->send(200, headers_, api::write_embedding_response(response_));
    }

    Metrics& metrics_;
    ActiveJobs& active_;
    std::shared_ptr<http::ResponseWriter> writer_;
    http::Headers headers_;
    std::shared_ptr<const ServedModel> model_;
    std::shared_ptr<Ticket> ticket_;
    double start_;
    std::atomic<bool> cancelled_{false};
    std::mutex mutex_;
    std::vector<std::uint64_t> ids_;
    std::size_t unfinished_;
    bool failed_ = false;
    api::EmbeddingResponse response_;
};

api::ApiResult<std::vector<std::vector<std::int32_t>>> tokens_of(const ServedModel& model,
                                                                 const api::EmbeddingRequest& request) {
    std::vector<std::vector<std::int32_t>> out;
    for (const auto& input : request.inputs) {
        out.push_back(input.is_tokens ? input.tokens : model.tokenizer.encode(input.text));
        const std::vector<std::int32_t>& tokens = out.back();
        if (tokens.empty())
            return tl::make_unexpected(api::invalid_value("input", "An input has no tokens."));
        const auto outside = std::find_if(tokens.begin(), tokens.end(), [&](std::int32_t token) {
            return token >= model.tokenizer.vocab_size();
        });
        if (outside != tokens.end()) {
            return tl::make_unexpected(api::invalid_value(
                "input",
                fmt::format(
                    "Invalid value for 'input': the vocabulary has {} tokens, and {} is none of them.",
                    model.tokenizer.vocab_size(), *outside)));
        }
        const std::int64_t context = model.engine->context_length();
        if (static_cast<std::int64_t>(tokens.size()) > context) {
            api::ApiError error = api::context_length_exceeded(
                fmt::format("This model's maximum context length is {} tokens, but an input has {}.", context,
                            tokens.size()));
            error.param = "input";
            return tl::make_unexpected(std::move(error));
        }
    }
    return out;
}

}  // namespace

void answer_embeddings(const Service& service, Call& call, const std::shared_ptr<const ServedModel>& model) {
    auto request = api::parse_embedding_request(call.request.body);
    if (!request) return call.send(request.error());
    if (refuses(service, call, *model, request->model)) return;
    const std::int64_t hidden = model->engine->config().hidden_size;
    if (request->dimensions && *request->dimensions != hidden) {
        return call.send(api::unsupported_parameter(
            "dimensions",
            fmt::format("This model's embeddings have {} dimensions, and are not shortened.", hidden)));
    }
    auto inputs = tokens_of(*model, *request);
    if (!inputs) return call.send(inputs.error());
    const std::size_t count = inputs->size();
    std::make_shared<EmbeddingJob>(service, call, model, count, request->base64)->start(std::move(*inputs));
}

}  // namespace retort::serve
