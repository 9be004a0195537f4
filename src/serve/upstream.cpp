#include "serve/upstream.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <cmath>
#include <condition_variable>
#include <mutex>
#include <span>
#include <thread>

#include "base/clock.h"
#include "base/log.h"
#include "http/async_client.h"
#include "http/client.h"
#include "serve/processing_time.h"
#include "serve/request_facts.h"
#include "serve/upstream_answer.h"

namespace retort::serve {

namespace {

struct Peer {
    UpstreamServer server;
    std::string prefix;  // of targets: the URL's path without /v1
    std::string host_name;
    std::shared_ptr<const http::AsyncServer> address;
    std::atomic<int> failures{0};       // in a row
    std::atomic<double> open_until{0};  // monotonic; no request until then
    // Whether it takes the asking for use so far: 0 not known, 1 yes, -1 it answers 400 to that.
    std::atomic<int> running_usage{0};
    std::atomic<std::uint64_t> answered{0};
    std::atomic<std::uint64_t> failed{0};
    [[nodiscard]] bool is_closed(double now) const { return now < open_until.load(); }
};

bool is_among(std::span<const std::string_view> names, std::string_view name) {
    return std::any_of(names.begin(), names.end(),
                       [&](std::string_view each) { return http::equal_ignoring_case(name, each); });
}

bool is_hop_by_hop(std::string_view name) {
    static constexpr std::string_view names[] = {"connection",
                                                 "keep-alive",
                                                 "proxy-authenticate",
                                                 "proxy-authorization",
                                                 "proxy-connection",
                                                 "te",
                                                 "trailer",
                                                 "transfer-encoding",
                                                 "upgrade",
                                                 "content-length"};
    return is_among(names, name);
}

bool goes_upstream(std::string_view name) {
    static constexpr std::string_view ours[] = {"host",   "authorization",   "x-api-key",
                                                "cookie", "accept-encoding", "expect"};
    return !is_hop_by_hop(name) && !is_among(ours, name);
}

void append_field(std::string& out, std::string_view name, std::string_view value) {
    ((out += name) += ": ") += value;
    out += "\r\n";
}

class Balancer : public Forwarder, public std::enable_shared_from_this<Balancer> {
  public:
    explicit Balancer(UpstreamOptions options) : options_(std::move(options)) {
        for (const UpstreamServer& server : options_.servers) {
            auto peer = std::make_unique<Peer>();
            peer->server = server;
            peer->host_name = server.url.origin();
            peer->address = std::make_shared<const http::AsyncServer>(server.url);
            peer->prefix = server.url.target;
            while (peer->prefix.ends_with('/')) peer->prefix.pop_back();
            if (peer->prefix.ends_with("/v1")) peer->prefix.resize(peer->prefix.size() - 3);
            for (std::int64_t i = 0; i < server.weight; ++i) turns_.push_back(peer.get());
            peers_.push_back(std::move(peer));
        }
        prober_ = std::thread([this] { probe(); });
    }
    ~Balancer() override {
        {
            const std::lock_guard lock(mutex_);
            stopping_ = true;
            wake_.notify_all();
        }
        prober_.join();
    }
    Balancer(const Balancer&) = delete;
    Balancer& operator=(const Balancer&) = delete;

    void forward(http::ServerRequest request, std::shared_ptr<http::ResponseWriter> writer,
                 http::Headers headers, std::shared_ptr<Ticket> ticket) override;

    [[nodiscard]] bool is_ready() const override {
        const double now = base::monotonic_seconds();
        return std::any_of(peers_.begin(), peers_.end(),
                           [&](const auto& peer) { return !peer->is_closed(now); });
    }

    [[nodiscard]] std::string metrics() const override {
        std::string out =
            "# HELP retort:upstream_up Whether requests are sent to an upstream server.\n"
            "# TYPE retort:upstream_up gauge\n";
        const double now = base::monotonic_seconds();
        for (const auto& peer : peers_) {
            out += fmt::format("retort:upstream_up{{upstream=\"{}\"}} {}\n", peer->host_name,
                               peer->is_closed(now) ? 0 : 1);
        }
        out +=
            "# HELP retort:upstream_requests_total Requests to an upstream server, by how they ended.\n"
            "# TYPE retort:upstream_requests_total counter\n";
        for (const auto& peer : peers_) {
            out += fmt::format(
                "retort:upstream_requests_total{{upstream=\"{0}\",result=\"answered\"}} {1}\n"
                "retort:upstream_requests_total{{upstream=\"{0}\",result=\"failed\"}} {2}\n",
                peer->host_name, peer->answered.load(), peer->failed.load());
        }
        return out;
    }

    // The next in turn that is up and not among `tried`; then any not tried, as a last resort.
    Peer* choose(const std::vector<Peer*>& tried) {
        const double now = base::monotonic_seconds();
        const std::size_t begin = turn_.fetch_add(1);
        Peer* last = nullptr;
        for (std::size_t i = 0; i < turns_.size(); ++i) {
            Peer* peer = turns_[(begin + i) % turns_.size()];
            if (std::find(tried.begin(), tried.end(), peer) != tried.end()) continue;
            if (!peer->is_closed(now)) return peer;
            last = peer;
        }
        return tried.empty() ? last : nullptr;
    }
    void succeeded(Peer& peer) const {
        peer.answered.fetch_add(1, std::memory_order_relaxed);
        if (peer.failures.load(std::memory_order_relaxed) == 0) return;
        peer.failures = 0;
        peer.open_until = 0;
    }
    void failed(Peer& peer) const {
        peer.failed.fetch_add(1);
        if (peer.failures.fetch_add(1) + 1 < options_.breaker_failures) return;
        // Once it is over one more failure is enough to leave it alone again.
        peer.open_until = base::monotonic_seconds() + options_.breaker_seconds;
    }
    [[nodiscard]] const UpstreamOptions& options() const { return options_; }

  private:
    // Servers that are left alone are asked whether they are back.
    void probe() {
        http::Client client;
        std::unique_lock lock(mutex_);
        while (!wake_.wait_for(lock, std::chrono::duration<double>(options_.health_seconds),
                               [this] { return stopping_; })) {
            lock.unlock();
            for (const auto& peer : peers_) {
                if (!peer->is_closed(base::monotonic_seconds())) continue;
                http::ClientRequest request;
                http::Url url = peer->server.url;
                url.target = peer->prefix + "/v1/models";
                request.url = url.text();
                if (!options_.api_key.empty())
                    request.headers.add("Authorization", "Bearer " + options_.api_key);
                request.max_redirects = 0;  // wherever it points, it is no answer of this server
                request.connect_seconds = 1;
                request.read_seconds = 2;
                request.cancelled = [this] {
                    const std::lock_guard held(mutex_);
                    return stopping_;
                };
                const auto response = client.send(request);
                const bool up = response && response->status < 500;
                if (!up) {
                    peer->open_until = base::monotonic_seconds() + options_.breaker_seconds;
                } else {
                    peer->failures = 0;
                    peer->open_until = 0;
                    spdlog::info("upstream {} answers again", peer->host_name);
                }
            }
            lock.lock();
        }
    }

    UpstreamOptions options_;
    std::vector<std::unique_ptr<Peer>> peers_;
    std::vector<Peer*> turns_;
    std::atomic<std::size_t> turn_{0};
    std::mutex mutex_;
    std::condition_variable wake_;
    bool stopping_ = false;
    std::thread prober_;
};

// One request on its way; everything happens on its connection's thread.
class Passage : public http::AsyncListener, public std::enable_shared_from_this<Passage> {
  public:
    Passage(std::shared_ptr<Balancer> balancer, http::ServerRequest request,
            std::shared_ptr<http::ResponseWriter> writer, http::Headers headers,
            std::shared_ptr<Ticket> ticket)
        : balancer_(std::move(balancer)),
          request_(std::move(request)),
          writer_(std::move(writer)),
          headers_(std::move(headers)),
          ticket_(std::move(ticket)) {}

    void start() {
        // Only what may be a stream or have several answers is read: bodies are long, and admission has read
        // this one already.
        AnswerRules rules;
        const UpstreamOptions& options = balancer_->options();
        const bool chat = request_.path == "/v1/chat/completions";
        rules.generates = request_.method == "POST" &&
                          (chat || request_.path == "/v1/completions" || request_.path == "/v1/embeddings");
        const auto has = [this](const char* text) { return request_.body.find(text) != std::string::npos; };
        if (has("\"stream\"") || has("\"n\"") || has("\\u")) {
            if (const auto facts = read_facts(request_.body)) {
                rules.choices = facts->choices;
                const bool counted = ticket_ && facts->stream && rules.generates;
                asks_usage_ = counted && !facts->include_usage;
                asks_running_ = counted && options.running_usage && !facts->running_usage;
                rules.hide_usage = asks_usage_;
            }
        }
        rules.reasoning = ticket_ ? ticket_->reasoning() : ReasoningAccess::full;
        rules.prompt_guess = rules.generates ? guess_prompt_tokens(request_.body) : 0;
        rules.works = options.protected_works;
        rules.think = chat ? options.think : ThinkTags::as_is;
        if (ticket_ && rules.generates) rules.tokens = options.tokens;
        answer_.emplace(std::move(rules));
        writer_->on_gone([weak = weak_from_this()] {
            if (const auto self = weak.lock()) self->client_went();
        });
        if (!gone_) attempt();
    }

  private:
    void attempt() {
        peer_ = balancer_->choose(tried_);
        if (peer_ == nullptr) return give_up();
        tried_.push_back(peer_);
        ask(asks_running_ && peer_->running_usage.load() >= 0);
    }

    void ask(bool running) {
        running_asked_ = running;
        answer_->hide_running(running);
        const UpstreamOptions& options = balancer_->options();
        http::AsyncRequest out;
        out.server = peer_->address;
        out.target = peer_->prefix + request_.path;
        if (!request_.query.empty()) (out.target += '?') += request_.query;
        out.method = request_.method;
        const std::string_view named = request_.headers.get("Connection");
        std::string fields;
        fields.reserve(512);
        for (const auto& [name, value] : request_.headers) {
            if (goes_upstream(name) && (named.empty() || named.find(name) == std::string_view::npos)) {
                append_field(fields, name, value);
            }
        }
        if (!options.api_key.empty()) {
            append_field(fields, "Authorization", "Bearer " + options.api_key);
        } else if (!ticket_) {
            if (const auto own = request_.headers.find("Authorization"))
                append_field(fields, "Authorization", *own);
        }
        out.fields = fields;
        std::string changed;
        out.body = request_.body;
        if (asks_usage_ || running) out.body = changed = ask_for_usage(request_.body, running);
        out.connect_seconds = options.connect_seconds;
        out.quiet_seconds = options.quiet_seconds;
        status_ = 0;
        call_ = http::start_request(std::move(out), shared_from_this());
    }

    [[nodiscard]] bool may_try_again() const {
        return !begun_ && !gone_ && static_cast<int>(tried_.size()) <= balancer_->options().retries;
    }

    void on_header(int status, const http::Headers& headers) override {
        status_ = status;
        answer_headers_ = headers_;
        stream_ = false;
        for (const auto& [name, value] : headers) {
            if (is_hop_by_hop(name) || http::equal_ignoring_case(name, "server") ||
                http::equal_ignoring_case(name, "date") || http::equal_ignoring_case(name, "set-cookie")) {
                continue;
            }
            // Ours are set already: request id and limits.
            const bool type = http::equal_ignoring_case(name, "content-type");
            if (!type && headers_.find(name)) continue;
            if (type) stream_ = value.starts_with("text/event-stream");
            answer_headers_.set(name, value);
        }
        if (!stream_ || status >= 300) {
            stream_ = false;
            return;
        }
        balancer_->succeeded(*peer_);
        begun_ = true;
        if (ticket_) ticket_->began();
        tell_processing_time(answer_headers_, start_);
        answer_headers_.set("Cache-Control", "no-cache");
        answer_headers_.set("X-Accel-Buffering", "no");
        writer_->begin_stream(status, answer_headers_);
    }

    void on_body(std::string_view bytes) override {
        if (stream_) {
            const std::string out = answer_->frames(bytes);
            // A client that is gone, or reads too slowly.
            if (!out.empty() && !writer_->write(out)) gone_ = true;
            if (gone_ || answer_->is_too_long()) call_->cancel();
            return;
        }
        body_ += bytes;
        if (body_.size() > balancer_->options().max_body_bytes) call_->cancel();
    }

    void on_end(const Status& status) override {
        call_.reset();
        if (ended_) return;
        const bool overloaded = status && (status_ == 502 || status_ == 503 || status_ == 504);
        if (!stream_ && (!status || overloaded)) {
            if (!gone_) balancer_->failed(*peer_);
            if (may_try_again()) {
                body_.clear();
                return attempt();
            }
        }
        if (gone_) return settle(RequestEnd::aborted, 499);
        if (status && running_asked_) {
            // Servers that refuse fields they do not know are asked without, from then on.
            if (status_ == 400 || status_ == 422) {
                peer_->running_usage = -1;
                refused_running_ = true;
                body_.clear();
                return ask(false);
            }
            if (status_ < 300) peer_->running_usage = 1;
        } else if (status && refused_running_ && (status_ == 400 || status_ == 422)) {
            peer_->running_usage = 0;  // the request was at fault, not the asking
        }
        if (stream_) {
            std::string rest = answer_->rest();
            if (!status) {
                balancer_->failed(*peer_);
                rest =
                    "data: " + api::write_error(api::unavailable("The upstream server broke off.")) + "\n\n";
            }
            if (!rest.empty()) writer_->write(rest);
            settle(status ? RequestEnd::finished : RequestEnd::failed, status_);
            return writer_->end();
        }
        // An overloaded server's own words go on only where a client can read them.
        if (!status || (overloaded && !is_error_answer(body_))) return give_up();
        if (!overloaded) balancer_->succeeded(*peer_);
        std::string body = answer_->whole(std::move(body_));
        if (ticket_) ticket_->began();
        tell_processing_time(answer_headers_, start_);
        settle(status_ < 400 ? RequestEnd::finished : RequestEnd::failed, status_);
        writer_->send(status_, std::move(answer_headers_), std::move(body));
    }

    void client_went() {
        gone_ = true;
        if (call_) {
            // on_end follows, and settles.
            call_->cancel();
        } else {
            settle(RequestEnd::aborted, 499);
        }
    }

    void give_up() {
        const api::ApiError error = api::unavailable("No upstream server answers; try again later.");
        settle(RequestEnd::failed, error.status);
        headers_.set("Content-Type", "application/json");
        headers_.set("Retry-After", "1");
        tell_processing_time(headers_, start_);
        writer_->send(error.status, headers_, api::write_error(error));
    }

    void settle(RequestEnd how, int status) {
        ended_ = true;
        if (!ticket_) return;
        // A failure that told no usage has used nothing; an answer, whole or broken off, has.
        if (how != RequestEnd::failed || answer_->is_told() || begun_) ticket_->count(use());
        ticket_->end(how, status);
        ticket_.reset();
    }

    [[nodiscard]] TokenUse use() const {
        TokenUse out = answer_->use();
        const auto& tokens = balancer_->options().tokens;
        if (answer_->is_told() || !tokens || out.prompt_tokens == 0) return out;
        if (const std::int64_t prompt = tokens->count_prompt(request_.body); prompt >= 0) {
            out.prompt_tokens = prompt;
        }
        return out;
    }

    std::shared_ptr<Balancer> balancer_;
    http::ServerRequest request_;
    std::shared_ptr<http::ResponseWriter> writer_;
    http::Headers headers_;
    std::shared_ptr<Ticket> ticket_;
    std::optional<UpstreamAnswer> answer_;
    std::shared_ptr<http::AsyncCall> call_;
    double start_ = base::monotonic_seconds();
    std::vector<Peer*> tried_;
    Peer* peer_ = nullptr;
    http::Headers answer_headers_;
    std::string body_;
    int status_ = 0;
    bool stream_ = false;
    bool begun_ = false;
    bool gone_ = false;
    bool ended_ = false;
    bool asks_usage_ = false;     // of a stream, at its end at least
    bool asks_running_ = false;   // and in each chunk, of servers that know how to tell
    bool running_asked_ = false;  // this attempt does
    bool refused_running_ = false;
};

void Balancer::forward(http::ServerRequest request, std::shared_ptr<http::ResponseWriter> writer,
                       http::Headers headers, std::shared_ptr<Ticket> ticket) {
    http::ResponseWriter& connection = *writer;
    auto passage = std::make_shared<Passage>(shared_from_this(), std::move(request), std::move(writer),
                                             std::move(headers), std::move(ticket));
    connection.run([passage = std::move(passage)] { passage->start(); });
}

}  // namespace

Result<UpstreamServer> parse_upstream(const std::string& text) {
    UpstreamServer out;
    const std::size_t comma = text.find(',');
    auto url = http::parse_url(text.substr(0, comma));
    if (!url) return fail_from(url.error(), "--upstream");
    if (!url->user_info.empty() || url->target.find('?') != std::string::npos) {
        return fail(ErrorCode::invalid_argument, "--upstream {}: a base URL has neither user nor query",
                    url->text());
    }
    out.url = std::move(*url);
    if (comma == std::string::npos) return out;
    const std::string_view option = std::string_view(text).substr(comma + 1);
    constexpr std::string_view name = "weight=";
    const std::string_view digits = option.substr(std::min(name.size(), option.size()));
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out.weight);
    if (!option.starts_with(name) || error != std::errc() || end != digits.data() + digits.size() ||
        out.weight < 1 || out.weight > 1000) {
        return fail(ErrorCode::invalid_argument,
                    "--upstream {}: after the comma stands weight=1 … weight=1000", text);
    }
    return out;
}

std::shared_ptr<Forwarder> make_upstream(UpstreamOptions options) {
    return std::make_shared<Balancer>(std::move(options));
}

}  // namespace retort::serve
