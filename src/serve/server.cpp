#include "serve/server.h"

#include <sodium.h>

#include <algorithm>
#include <array>
#include <thread>

#include "api/chat_response.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "http/server.h"
#include "serve/generation_job.h"
#include "serve/requests.h"

namespace retort::serve {

namespace {

constexpr auto stop_poll = std::chrono::milliseconds(50);
constexpr std::string_view models_prefix = "/v1/models/";

std::string random_id(std::string_view prefix) {
    std::array<std::uint8_t, 12> bytes{};
    randombytes_buf(bytes.data(), bytes.size());
    return std::string(prefix) + base::to_hex(bytes);
}

// Equal length of hashes: the time tells nothing of the key, its length included.
bool is_same_secret(std::string_view a, std::string_view b) {
    const base::Sha256 left = base::sha256(a);
    const base::Sha256 right = base::sha256(b);
    return sodium_memcmp(left.data(), right.data(), left.size()) == 0;
}

std::string percent_decoded(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const std::string hex(text.substr(i + 1, 2));
        if (text[i] == '%' && hex.size() == 2 &&
            hex.find_first_not_of("0123456789abcdefABCDEF") == std::string::npos) {
            out += static_cast<char>(std::stoi(hex, nullptr, 16));
            i += 2;
        } else {
            out += text[i];
        }
    }
    return out;
}

// The client's own id when it is one word of reasonable length: it ends up in logs.
std::string request_id(const http::ServerRequest& request) {
    const std::string_view given = request.headers.get("x-request-id");
    const bool usable = !given.empty() && given.size() <= 128 &&
                        std::all_of(given.begin(), given.end(), [](char c) { return c > 0x20 && c < 0x7f; });
    return usable ? std::string(given) : random_id("req_");
}

}  // namespace

class Server::Implementation {
  public:
    explicit Implementation(ServerOptions options)
        : options_(std::move(options)), created_(base::unix_milliseconds() / 1000) {}

    ~Implementation() {
        stop();
        if (http_) http_->join();
        // The engine's thread may still be inside a job.
        active_.wait();
    }

    Status start() {
        if (sodium_init() < 0) return fail(ErrorCode::internal, "libsodium finds no source of randomness");
        http::ServerOptions http;
        http.host = options_.host;
        http.port = options_.port;
        http.threads = options_.http_threads;
        http.drain_seconds = options_.drain_seconds;
        http.error_body = [](int status, std::string_view message) {
            api::ApiError error;
            error.status = status;
            error.message = message;
            return api::write_error(error);
        };
        RETORT_TRY(http_, http::Server::start(http, [this](http::ServerRequest request,
                                                           std::shared_ptr<http::ResponseWriter> writer) {
                       handle(std::move(request), std::move(writer));
                   }));
        return {};
    }

    void set_model(ServedModel model) {
        auto shared = std::make_shared<const ServedModel>(std::move(model));
        const std::lock_guard lock(mutex_);
        model_ = std::move(shared);
    }

    void stop() {
        if (http_) http_->stop();
        stopping_ = true;
    }

    void join() {
        while (!stopping_) {
            if (base::interrupted()) stop();
            std::this_thread::sleep_for(stop_poll);
        }
        http_->join();
        active_.wait();
    }

    [[nodiscard]] std::uint16_t port() const { return http_->port(); }
    [[nodiscard]] const ServerOptions& options() const { return options_; }

  private:
    struct Call {
        http::ServerRequest request;
        std::shared_ptr<http::ResponseWriter> writer;
        http::Headers headers;  // of the answer, whatever it is
        double start = base::monotonic_seconds();

        void send(int status, std::string body) {
            headers.set("openai-processing-ms",
                        fmt::format("{:.0f}", (base::monotonic_seconds() - start) * 1000));
            writer->send(status, headers, std::move(body));
        }
        void send(const api::ApiError& error) { send(error.status, api::write_error(error)); }
    };

    std::shared_ptr<const ServedModel> model() const {
        const std::lock_guard lock(mutex_);
        return model_;
    }

    void handle(http::ServerRequest request, std::shared_ptr<http::ResponseWriter> writer) {
        Call call{std::move(request), std::move(writer), {}};
        call.headers.add("Content-Type", "application/json");
        call.headers.add("x-request-id", request_id(call.request));
        if (!options_.cors_origin.empty()) {
            call.headers.add("Access-Control-Allow-Origin", options_.cors_origin);
            call.headers.add("Access-Control-Expose-Headers", "x-request-id, openai-processing-ms");
        }
        std::string& path = call.request.path;
        if (path.size() > 1 && path.ends_with('/')) path.pop_back();
        const std::string allowed = allowed_methods(path);
        if (allowed.empty()) return call.send(api::route_not_found(call.request.method, path));
        if (call.request.method == "OPTIONS") return answer_options(call, allowed);
        if (allowed.find(call.request.method) == std::string::npos) {
            call.headers.set("Allow", allowed);
            return call.send(api::method_not_allowed(call.request.method, path));
        }
        if (path == "/health") return answer_health(call);
        if (!is_authorised(call)) return;
        if (path == "/metrics") return answer_metrics(call);
        const auto served = model();
        if (!served) {
            call.headers.set("Retry-After", "5");
            return call.send(api::unavailable("The model is still being loaded."));
        }
        if (path == "/v1/models") return call.send(200, api::write_models({card(*served)}));
        if (path.starts_with(models_prefix)) return answer_model(call, *served);
        if (path == "/v1/chat/completions") return answer_chat(call, served);
        answer_completion(call, served);
    }

    // Empty: no such route.
    static std::string allowed_methods(std::string_view path) {
        if (path == "/v1/chat/completions" || path == "/v1/completions") return "POST, OPTIONS";
        if (path == "/health" || path == "/metrics" || path == "/v1/models" ||
            (path.starts_with(models_prefix) && path.size() > models_prefix.size())) {
            return "GET, HEAD, OPTIONS";
        }
        return {};
    }

    void answer_options(Call& call, const std::string& allowed) const {
        call.headers.set("Allow", allowed);
        if (!options_.cors_origin.empty()) {
            call.headers.add("Access-Control-Allow-Methods", allowed);
            call.headers.add("Access-Control-Allow-Headers",
                             std::string(call.request.headers.get("Access-Control-Request-Headers",
                                                                  "Authorization, Content-Type, X-Api-Key")));
            call.headers.add("Access-Control-Max-Age", "600");
        }
        call.send(204, {});
    }

    void answer_health(Call& call) const {
        if (model()) return call.send(200, R"({"status":"ok"})");
        call.send(api::unavailable("The model is still being loaded."));
    }

    // Answers 401 itself when it is not.
    bool is_authorised(Call& call) const {
        if (options_.api_keys.empty()) return true;
        const std::string_view header = call.request.headers.get("Authorization");
        std::string_view key = call.request.headers.get("X-Api-Key");
        constexpr std::string_view scheme = "Bearer ";
        if (header.size() > scheme.size() &&
            http::equal_ignoring_case(header.substr(0, scheme.size()), scheme)) {
            key = header.substr(scheme.size());
        }
        bool known = false;
        for (const std::string& good : options_.api_keys) known = is_same_secret(key, good) || known;
        if (known && !key.empty()) return true;
        call.headers.set("WWW-Authenticate", "Bearer");
        call.send(api::invalid_api_key(
            key.empty()
                ? "You didn't provide an API key. Send it in an Authorization header: Authorization: Bearer "
                  "YOUR_KEY."
                : "Incorrect API key provided."));
        return false;
    }

    void answer_metrics(Call& call) const {
        const auto served = model();
        generate::EngineStatistics statistics;
        if (served) statistics = served->engine->statistics();
        call.headers.set("Content-Type", "text/plain; version=0.0.4; charset=utf-8");
        call.send(200, metrics_.text(served ? &statistics : nullptr));
    }

    [[nodiscard]] api::ModelCard card(const ServedModel& served) const {
        return {options_.model_id, created_, "retort", served.engine->context_length()};
    }

    void answer_model(Call& call, const ServedModel& served) const {
        const std::string id =
            percent_decoded(std::string_view(call.request.path).substr(models_prefix.size()));
        if (id != options_.model_id) return call.send(api::model_not_found(id));
        call.send(200, api::write_model(card(served)));
    }

    bool refuses(Call& call, const ServedModel& served, const std::string& model_id) const {
        if (model_id != options_.model_id) {
            call.send(api::model_not_found(model_id));
            return true;
        }
        if (served.engine->statistics().waiting >= options_.max_waiting) {
            call.headers.set("Retry-After", "1");
            call.send(api::unavailable("Too many requests are waiting; try again later."));
            return true;
        }
        return false;
    }

    void start_job(Call& call, const std::shared_ptr<const ServedModel>& served, JobRequest job,
                   std::unique_ptr<AnswerFormat> format) {
        std::make_shared<GenerationJob>(served, call.writer, std::move(call.headers), std::move(format),
                                        std::move(job), metrics_, active_)
            ->start();
    }

    [[nodiscard]] AnswerIdentity identity(std::string_view prefix) const {
        return {random_id(prefix), base::unix_milliseconds() / 1000, options_.model_id,
                options_.system_fingerprint};
    }

    void answer_chat(Call& call, const std::shared_ptr<const ServedModel>& served) {
        auto request = api::parse_chat_request(call.request.body);
        if (!request) return call.send(request.error());
        if (refuses(call, *served, request->model)) return;
        if (!served->render) {
            return call.send(api::invalid_value(
                "messages", "This model has no chat template; use /v1/completions instead."));
        }
        auto job = prepare_chat(*served, *request);
        if (!job) return call.send(job.error());
        start_job(call, served, std::move(*job), chat_format(identity("chatcmpl-"), request->include_usage));
    }

    void answer_completion(Call& call, const std::shared_ptr<const ServedModel>& served) {
        auto request = api::parse_completion_request(call.request.body);
        if (!request) return call.send(request.error());
        if (refuses(call, *served, request->model)) return;
        auto job = prepare_completion(*served, *request);
        if (!job) return call.send(job.error());
        start_job(call, served, std::move(*job),
                  completion_format(identity("cmpl-"), request->include_usage));
    }

    ServerOptions options_;
    std::int64_t created_;
    mutable std::mutex mutex_;
    std::shared_ptr<const ServedModel> model_;
    Metrics metrics_;
    ActiveJobs active_;
    std::atomic<bool> stopping_{false};
    std::unique_ptr<http::Server> http_;
};

Server::Server(std::unique_ptr<Implementation> implementation) : implementation_(std::move(implementation)) {}

Server::~Server() = default;

Result<std::unique_ptr<Server>> Server::create(ServerOptions options) {
    auto implementation = std::make_unique<Implementation>(std::move(options));
    RETORT_CHECK(implementation->start());
    return std::unique_ptr<Server>(new Server(std::move(implementation)));
}

Result<std::unique_ptr<Server>> Server::create(ServerOptions options, ServedModel model) {
    RETORT_TRY(std::unique_ptr<Server> server, create(std::move(options)));
    server->set_model(std::move(model));
    return server;
}

void Server::set_model(ServedModel model) {
    implementation_->set_model(std::move(model));
}

std::uint16_t Server::port() const {
    return implementation_->port();
}

std::string Server::base_url() const {
    const std::string& host = implementation_->options().host;
    return fmt::format("http://{}:{}/v1", host.find(':') == std::string::npos ? host : "[" + host + "]",
                       implementation_->port());
}

void Server::stop() {
    implementation_->stop();
}

void Server::join() {
    implementation_->join();
}

}  // namespace retort::serve
