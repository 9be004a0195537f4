#include "serve/server.h"

#include <sodium.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <mutex>
#include <thread>

#include "base/clock.h"
#include "base/hash.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "http/server.h"
#include "serve/constraint.h"
#include "serve/routes.h"

namespace retort::serve {

namespace {

constexpr auto stop_poll = std::chrono::milliseconds(50);
constexpr double certificate_poll_seconds = 2;

// Equal length of hashes: the time tells nothing of the key, its length included.
bool is_same_secret(std::string_view a, std::string_view b) {
    const base::Sha256 left = base::sha256(a);
    const base::Sha256 right = base::sha256(b);
    return sodium_memcmp(left.data(), right.data(), left.size()) == 0;
}

// Whether `list`, as in "GET, HEAD", has the method as a whole word.
bool names_method(std::string_view list, std::string_view method) {
    while (!list.empty()) {
        const std::size_t end = list.find(", ");
        if (list.substr(0, end) == method) return true;
        list.remove_prefix(end == std::string_view::npos ? list.size() : end + 2);
    }
    return false;
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
        if (options_.admission) options_.admission->stop();
        if (options_.admin) options_.admin->stop();
        if (http_) http_->join();
        if (options_.planting) options_.planting->stop();
        // The engine's thread may still be inside a job.
        active_.wait();
        if (keeper_.joinable()) keeper_.join();
    }

    Status start() {
        if (sodium_init() < 0) return fail(ErrorCode::internal, "libsodium finds no source of randomness");
        http::ServerOptions http;
        http.host = options_.host;
        http.port = options_.port;
        http.threads = options_.http_threads;
        http.drain_seconds = options_.drain_seconds;
        http.max_connections = options_.max_connections;
        http.max_body_bytes = options_.max_body_bytes;
        if (options_.client_seconds > 0) {
            http.handshake_seconds = std::min(http.handshake_seconds, options_.client_seconds);
            http.idle_seconds = http.body_seconds = http.write_seconds = options_.client_seconds;
        }
        http.certificate_file = options_.tls_certificate;
        http.key_file = options_.tls_key;
        certificate_stamp_ = certificate_stamp();
        http.error_body = [](int status, std::string_view message) {
            api::ApiError error;
            error.status = status;
            error.message = message;
            return api::write_error(error);
        };
        http.error_headers = [this] {
            http::Headers headers;
            headers.add("x-request-id", random_id("req_"));
            headers.add("openai-processing-ms", "0");
            add_cors(headers);
            return headers;
        };
        RETORT_TRY(http_, http::Server::start(http, [this](http::ServerRequest request,
                                                           std::shared_ptr<http::ResponseWriter> writer) {
                       handle(std::move(request), std::move(writer));
                   }));
        keeper_ = std::thread([this] { keep_alive(); });
        return {};
    }

    // Comments for streams that wait, so that no proxy on the way takes them for dead.
    void keep_alive() {
        const double interval = options_.keep_alive_seconds;
        while (!stopping_) {
            std::this_thread::sleep_for(stop_poll);
            if (interval > 0) active_.each([&](GenerationJob& job) { job.keep_alive(interval); });
            if (!options_.tls_certificate.empty()) renew_certificate();
            if (options_.planting) options_.planting->tick();
        }
    }

    // When both were last written; what cannot be read counts as never.
    [[nodiscard]] std::int64_t certificate_stamp() const {
        std::int64_t stamp = 0;
        for (const std::string& file : {options_.tls_certificate, options_.tls_key}) {
            std::error_code error;
            const auto written = std::filesystem::last_write_time(file, error);
            if (!error) stamp += written.time_since_epoch().count() / 1000;
        }
        return stamp;
    }

    // Certificate and key are two files: between the writing of the one and of the other they do not fit, the
    // old ones stay, and the next change tries again.
    void renew_certificate() {
        const double now = base::monotonic_seconds();
        const bool asked = base::take_hangup();
        if (!asked && now - certificate_looked_ < certificate_poll_seconds) return;
        certificate_looked_ = now;
        const std::int64_t stamp = certificate_stamp();
        if (!asked && stamp == certificate_stamp_) return;
        certificate_stamp_ = stamp;
        if (const Status renewed = http_->reload_certificate(); !renewed) {
            spdlog::error("the old certificate stays: {}", renewed.error().message);
        } else {
            spdlog::info("the certificate is read anew from {}", options_.tls_certificate);
        }
    }

    void set_model(ServedModel model) {
        model.token_tree = token_tree_of(model.tokenizer);
        grammars_.clear();
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
        if (options_.planting) options_.planting->stop();
        active_.wait();
        if (options_.admission) options_.admission->stop();
        if (options_.admin) options_.admin->stop();
    }

    [[nodiscard]] std::uint16_t port() const { return http_->port(); }
    [[nodiscard]] const ServerOptions& options() const { return options_; }

  private:
    std::shared_ptr<const ServedModel> model() const {
        const std::lock_guard lock(mutex_);
        return model_;
    }

    void handle(http::ServerRequest request, std::shared_ptr<http::ResponseWriter> writer) {
        Call call{std::move(request), std::move(writer), {}, nullptr};
        call.headers.add("Content-Type", "application/json");
        const std::string id = request_id(call.request);
        call.request.headers.set("x-request-id", id);  // the event log's and the next server's too
        call.headers.add("x-request-id", id);
        std::string& path = call.request.path;
        if (path.size() > 1 && path.ends_with('/')) path.pop_back();
        if (options_.admin && path.starts_with("/admin/")) {
            return options_.admin->answer(std::move(call.request), std::move(call.writer),
                                          std::move(call.headers));
        }
        add_cors(call.headers);
        const Route* route = find_route(path);
        if (route == nullptr) return call.send(api::route_not_found(call.request.method, path));
        const std::string allowed(route->methods);
        if (call.request.method == "OPTIONS") return answer_options(call, allowed);
        if (!names_method(allowed, call.request.method)) {
            call.headers.set("Allow", allowed);
            return call.send(api::method_not_allowed(call.request.method, path));
        }
        if (!route->needs_key) return answer(*route, call);
        if (!options_.admission) {
            if (is_authorised(call)) answer(*route, call);
            return;
        }
        auto shared = std::make_shared<Call>(std::move(call));
        options_.admission->admit(shared->request, [this, route, shared](Admitted admitted) {
            for (const auto& [name, value] : admitted.headers) shared->headers.add(name, value);
            if (admitted.error) return shared->send(*admitted.error);
            shared->ticket = std::move(admitted.ticket);
            answer(*route, *shared);
        });
    }

    // What clients in a browser go by: when to ask again, and what is left.
    void add_cors(http::Headers& headers) const {
        if (options_.cors_origin.empty()) return;
        headers.add("Access-Control-Allow-Origin", options_.cors_origin);
        headers.add("Access-Control-Expose-Headers",
                    "x-request-id, openai-processing-ms, retry-after, retry-after-ms, x-should-retry, "
                    "x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, "
                    "x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens");
    }

    // A request whose sender may ask it.
    void answer(const Route& route, Call& call) {
        if (options_.forwarder && route.needs_model) {
            return options_.forwarder->forward(std::move(call.request), std::move(call.writer),
                                               std::move(call.headers), std::move(call.ticket));
        }
        const auto served = model();
        if (route.needs_model && !served) {
            call.headers.set("Retry-After", "5");
            return call.send(api::unavailable("The model is still being loaded."));
        }
        route.answer(service_, call, served);
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

    // Answers 401 itself when it is not.
    bool is_authorised(Call& call) const {
        if (options_.api_keys.empty()) return true;
        const std::string_view key = key_of(call.request);
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

    ServerOptions options_;
    std::int64_t created_;
    mutable std::mutex mutex_;
    std::shared_ptr<const ServedModel> model_;
    Metrics metrics_;
    ActiveJobs active_;
    GrammarCache grammars_;
    Service service_{options_, created_, metrics_, active_, grammars_};
    std::atomic<bool> stopping_{false};
    std::int64_t certificate_stamp_ = 0;
    double certificate_looked_ = 0;
    std::unique_ptr<http::Server> http_;
    std::thread keeper_;
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
    return fmt::format("{}://{}:{}/v1", implementation_->options().tls_certificate.empty() ? "http" : "https",
                       host.find(':') == std::string::npos ? host : "[" + host + "]",
                       implementation_->port());
}

void Server::stop() {
    implementation_->stop();
}

void Server::join() {
    implementation_->join();
}

}  // namespace retort::serve
