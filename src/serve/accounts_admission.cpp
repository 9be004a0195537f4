#include "serve/accounts_admission.h"

#include <algorithm>
#include <functional>
#include <string>
#include <unordered_map>
#include <utility>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "serve/request_facts.h"

namespace retort::serve {

namespace {

constexpr std::string_view refusal_codes[] = {"invalid_api_key",    "terms_not_accepted",
                                              "model_not_allowed",  "rate_limit_exceeded",
                                              "insufficient_quota", "unavailable"};
constexpr std::int64_t million = 1'000'000;

ReasoningAccess access_named(std::string_view name) {
    if (name == "full") return ReasoningAccess::full;
    return name == "withheld" ? ReasoningAccess::withheld : ReasoningAccess::summarised;
}

// What the plan grants, less what the guard took.
ReasoningAccess access_of(const AccountView& account) {
    const ReasoningAccess plan = access_named(account.plan->reasoning);
    if (account.mark.reasoning.empty()) return plan;
    return std::max(plan, access_named(account.mark.reasoning));
}

std::int64_t smaller_limit(std::int64_t a, std::int64_t b) {
    if (a == store::no_limit || b == store::no_limit) return std::max(a, b);
    return std::min(a, b);
}

store::Limits limits_of(const AccountView& account) {
    store::Limits limits = account.plan->limits;
    const auto requests = static_cast<std::size_t>(store::Unit::requests);
    const auto tokens = static_cast<std::size_t>(store::Unit::tokens);
    const auto minute = static_cast<std::size_t>(store::Span::minute);
    const auto day = static_cast<std::size_t>(store::Span::day);
    limits[requests][minute] = smaller_limit(limits[requests][minute], account.mark.requests_per_minute);
    limits[tokens][day] = smaller_limit(limits[tokens][day], account.mark.tokens_per_day);
    return limits;
}

// In millionths of a dollar, rounded up.
std::int64_t cost_of(const store::Plan& plan, std::int64_t prompt_tokens, std::int64_t completion_tokens) {
    const auto price = static_cast<__int128>(plan.prompt_price) * prompt_tokens +
                       static_cast<__int128>(plan.completion_price) * completion_tokens;
    return static_cast<std::int64_t>((price + million - 1) / million);
}

// "6m0s", "1h0m0s", "12s"
std::string reset_text(std::int64_t seconds) {
    if (seconds >= 3600) return fmt::format("{}h{}m{}s", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if (seconds >= 60) return fmt::format("{}m{}s", seconds / 60, seconds % 60);
    return fmt::format("{}s", seconds);
}

api::ApiError forbidden(std::string message, std::string code, std::optional<std::string> param = {}) {
    return {403, std::move(message), "invalid_request_error", std::move(param), std::move(code)};
}

void add_states(http::Headers& headers, const std::array<QuotaState, 2>& states) {
    constexpr std::array<std::string_view, 3> names[] = {
        {"x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"},
        {"x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"}};
    for (std::size_t i = 0; i < states.size(); ++i) {
        if (states[i].limit == store::no_limit) continue;
        headers.add(names[i][0], std::to_string(states[i].limit));
        headers.add(names[i][1], std::to_string(states[i].remaining));
        headers.add(names[i][2], reset_text(states[i].reset_seconds));
    }
}

api::ApiError quota_error(const QuotaRefusal& why, http::Headers& headers) {
    if (why.unavailable) {
        headers.add("Retry-After", "1");
        return api::unavailable("The account store does not answer; try again later.");
    }
    const std::string unit(store::unit_name(why.unit));
    const std::string limit = why.unit == 2 ? fmt::format("${:.6f}", static_cast<double>(why.limit) / 1e6)
                                            : fmt::format("{} {}", why.limit, unit);
    headers.add("Retry-After", std::to_string(why.seconds));
    headers.add("retry-after-ms", std::to_string(why.seconds * 1000));
    // A minute passes while a client waits; a day or a month does not, and a request that is too large stays
    // so.
    if (why.span > 0 || why.never_fits) headers.add("x-should-retry", "false");
    if (why.never_fits) {
        return api::rate_limited(
            fmt::format("This request alone needs more than the limit of {} per {}; make it "
                        "smaller, or lower max_completion_tokens.",
                        limit, store::span_name(why.span)));
    }
    if (why.span == 0) {
        return api::rate_limited(fmt::format("Rate limit reached: {} per minute. Try again in {}.", limit,
                                             reset_text(why.seconds)));
    }
    return {429,
            fmt::format("You exceeded your current quota of {} per {}; it is renewed in {}.", limit,
                        store::span_name(why.span), reset_text(why.seconds)),
            "insufficient_quota", std::nullopt, "insufficient_quota"};
}

using KnownHashes = std::unordered_map<std::string, store::ShortHash, TextHash, std::equal_to<>>;

// Hashing an address takes longer than looking it up, and clients stay.
store::ShortHash cached_hash(KnownHashes& known, const store::Secret& secret, std::string_view purpose,
                             std::string_view text) {
    if (text.empty()) return {};
    const auto found = known.find(text);
    if (found != known.end()) return found->second;
    if (known.size() >= 4096) known.clear();
    return known[std::string(text)] = short_hash(secret, purpose, text);
}

class AccountTicket final : public Ticket {
  public:
    AccountTicket(std::shared_ptr<AccountAdmission> owner, std::shared_ptr<const Caller> caller, double start)
        : owner_(std::move(owner)), caller_(std::move(caller)), start_(start) {}
    ~AccountTicket() override {
        if (!admitted_) return;
        end(RequestEnd::failed, event_.status != 0 ? static_cast<int>(event_.status) : 500);
    }
    AccountTicket(const AccountTicket&) = delete;
    AccountTicket& operator=(const AccountTicket&) = delete;

    // Until it is admitted; what is refused takes its event back.
    store::Event& event() { return event_; }
    void admit(Reservation reservation) {
        reservation_ = std::move(reservation);
        admitted_ = true;
    }

    [[nodiscard]] ReasoningAccess reasoning() const override { return access_of(*caller_->account); }
    [[nodiscard]] std::string channel() const override { return base::to_hex(caller_->key_hash); }
    [[nodiscard]] PlantingMarks marks() const override {
        return {caller_->account->mark.watermark, caller_->account->mark.twins};
    }
    void began() override { event_.first_byte_us = elapsed_us(); }
    void count(const TokenUse& use) override {
        const std::lock_guard lock(mutex_);
        use_ = use;
    }
    void end(RequestEnd how, int status) override {
        const std::lock_guard lock(mutex_);
        if (ended_) return;
        ended_ = true;
        event_.status = status;
        event_.end = how == RequestEnd::finished  ? "finished"
                     : how == RequestEnd::aborted ? "aborted"
                                                  : "failed";
        event_.total_us = elapsed_us();
        if (event_.first_byte_us == 0) event_.first_byte_us = event_.total_us;
        const std::int64_t cost =
            cost_of(*caller_->account->plan, use_.prompt_tokens, use_.completion_tokens);
        owner_->settle({std::move(reservation_), use_, cost}, event_);
    }

  private:
    [[nodiscard]] std::int64_t elapsed_us() const {
        return static_cast<std::int64_t>((base::monotonic_seconds() - start_) * 1e6);
    }

    std::shared_ptr<AccountAdmission> owner_;
    std::shared_ptr<const Caller> caller_;
    Reservation reservation_;
    store::Event event_;
    double start_;
    std::mutex mutex_;
    TokenUse use_;
    bool admitted_ = false;
    bool ended_ = false;
};

}  // namespace

Result<store::Secret> store_secret(const std::string& location, const std::string& secret_file) {
    if (!secret_file.empty()) return store::Secret::load_or_create(secret_file);
    if (store::is_postgres(location)) {
        return fail(ErrorCode::invalid_argument,
                    "a PostgreSQL store needs --store-secret FILE: the same on every server, made if absent");
    }
    return store::Secret::load_or_create(location + ".secret");
}

Result<std::shared_ptr<AccountAdmission>> AccountAdmission::open(const AccountsOptions& options) {
    RETORT_TRY(const store::Secret secret, store_secret(options.location, options.secret_file));
    std::shared_ptr<AccountAdmission> out(new AccountAdmission());
    RETORT_TRY(out->directory_, AccountDirectory::open(options.location, secret, options.directory));
    RETORT_TRY(out->quota_, Quota::open(options.location, options.quota));
    if (!options.event_folder.empty()) {
        store::EventLogOptions events;
        events.folder = options.event_folder;
        events.retention_seconds = options.event_retention_days * 86'400;
        RETORT_TRY(out->events_, store::EventLog::open(events));
    }
    out->log_bodies_ = options.log_bodies;
    out->sketch_key_ = guard::sketch_key(secret);
    out->self_ = out;
    return out;
}

void AccountAdmission::stop() {
    quota_->stop();
    directory_->stop();
    if (events_) (void)events_->flush();
}

void AccountAdmission::describe(store::Event& event, const http::ServerRequest& request,
                                const Caller* caller) {
    event.time_ms = base::unix_milliseconds();
    event.request_id = request.headers.get("x-request-id").substr(0, 128);
    event.method = request.method;
    event.route = std::string_view(request.path).substr(0, 200);
    const store::Secret& secret = directory_->secret();
    thread_local std::array<KnownHashes, 2> known;
    thread_local const store::Secret* known_by = nullptr;
    if (std::exchange(known_by, &secret) != &secret) known = {};
    event.address = cached_hash(known[0], secret, "address", request.remote_address);
    event.user_agent = cached_hash(known[1], secret, "user agent", request.headers.get("User-Agent"));
    if (caller != nullptr) {
        event.account = caller->account->hash;
        event.key = caller->key_hash;
        event.plan = caller->account->plan->name;
        event.payment = caller->account->payment;
        directory_->saw(caller->account->id, "address", event.address);
        if (event.payment != store::ShortHash{}) {
            directory_->saw(caller->account->id, "payment", event.payment);
        }
        if (event.user_agent != store::ShortHash{}) {
            directory_->saw(caller->account->id, "user_agent", event.user_agent);
        }
    }
    if (log_bodies_) event.body = request.body;
}

void AccountAdmission::refuse(const api::ApiError& error, store::Event& event, http::Headers headers,
                              const std::function<void(Admitted)>& decided) {
    const auto* const known =
        std::find(std::begin(refusal_codes), std::end(refusal_codes), error.code.value_or(""));
    if (known != std::end(refusal_codes))
        refused_[static_cast<std::size_t>(known - refusal_codes)].fetch_add(1);
    event.status = error.status;
    event.end = "refused";
    event.code = error.code.value_or("");
    if (events_) events_->add(event);
    decided({nullptr, error, std::move(headers)});
}

std::optional<api::ApiError> AccountAdmission::check(const http::ServerRequest& request,
                                                     const std::shared_ptr<const Caller>& caller,
                                                     bool has_key, http::Headers& headers) const {
    if (directory_->is_stale()) {
        headers.add("Retry-After", "1");
        return api::unavailable("The account store does not answer; try again later.");
    }
    if (!caller) {
        headers.add("WWW-Authenticate", "Bearer");
        return api::invalid_api_key(
            has_key ? "Incorrect API key provided."
                    : "You didn't provide an API key. Send it in an Authorization header: "
                      "Authorization: Bearer YOUR_KEY.");
    }
    const AccountView& account = *caller->account;
    if (account.suspended) {
        headers.add("x-should-retry", "false");
        return forbidden(
            fmt::format("This account is suspended{}.", account.reason.empty() ? "" : ": " + account.reason),
            "terms_not_accepted");
    }
    // Who runs the server may look at lists and metrics before; no model answers anybody.
    if (!account.missing_terms.empty() && (caller->role != "admin" || request.method == "POST")) {
        return forbidden(fmt::format("This account has not accepted the terms '{}'.", account.missing_terms),
                         "terms_not_accepted");
    }
    return std::nullopt;
}

void AccountAdmission::admit(const http::ServerRequest& request, std::function<void(Admitted)> decided) {
    const double start = base::monotonic_seconds();
    const std::string_view key = key_of(request);
    const std::shared_ptr<const Caller> caller = key.empty() ? nullptr : directory_->find(key);
    // Made here already, so that its long event stays where it is.
    auto ticket = std::make_shared<AccountTicket>(self_.lock(), caller, start);
    store::Event& event = ticket->event();
    describe(event, request, caller.get());
    http::Headers headers;
    if (const auto error = check(request, caller, !key.empty(), headers)) {
        return refuse(*error, event, std::move(headers), decided);
    }
    const store::Plan& plan = *caller->account->plan;
    Amounts wanted{};
    if (request.method == "POST") {
        auto facts = read_facts(request.body, events_ ? &sketch_key_ : nullptr);
        if (!facts) return refuse(facts.error(), event, std::move(headers), decided);
        event.model = std::string_view(facts->model).substr(0, 200);
        event.stream = facts->stream;
        event.logprobs = facts->logprobs;
        event.logit_bias = facts->logit_bias;
        event.messages = facts->messages;
        event.parameters = facts->parameters;
        event.sketch = std::move(facts->sketch);
        const auto& models = plan.models;
        if (!models.empty() && std::find(models.begin(), models.end(), facts->model) == models.end()) {
            api::ApiError error =
                forbidden(fmt::format("The plan of this key does not include the model '{}'.",
                                      facts->model.substr(0, 200)),
                          "model_not_allowed", "model");
            return refuse(error, event, std::move(headers), decided);
        }
        if (facts->logprobs && !plan.logprobs) {
            return refuse(forbidden("The plan of this key does not include logprobs.", "terms_not_accepted",
                                    "logprobs"),
                          event, std::move(headers), decided);
        }
        if (caller->account->mark.no_logprobs && (facts->logprobs || facts->logit_bias)) {
            return refuse(
                forbidden("logprobs and logit_bias are withdrawn from this account; write to whoever "
                          "runs this server to appeal.",
                          "terms_not_accepted", facts->logprobs ? "logprobs" : "logit_bias"),
                event, std::move(headers), decided);
        }
        // A bias forces any token out, and its logprob then says what the model thought of it: with enough of
        // them the output projection is known up to a rotation (Carlini et al. 2024).
        if (facts->logprobs && facts->logit_bias) {
            return refuse(
                api::invalid_value("logit_bias", "'logit_bias' and 'logprobs' cannot be asked for together."),
                event, std::move(headers), decided);
        }
        // Likewise of an echoed prompt, where the sender writes the tokens himself.
        if (facts->logprobs && facts->echo && !plan.prompt_logprobs) {
            return refuse(forbidden("The plan of this key does not include the logprobs of an echoed prompt "
                                    "(prompt_logprobs).",
                                    "terms_not_accepted", "echo"),
                          event, std::move(headers), decided);
        }
        const bool generates = request.path == "/v1/chat/completions" || request.path == "/v1/completions";
        const std::int64_t answer =
            facts->max_tokens >= 0 ? facts->max_tokens : plan.reserved_completion_tokens;
        const std::int64_t prompt = guess_prompt_tokens(request.body);
        const std::int64_t completion = generates ? answer * facts->choices : 0;
        wanted = {1, prompt + completion, cost_of(plan, prompt, completion)};
    }
    quota_->reserve(
        caller->account->id, limits_of(*caller->account), wanted,
        [this, ticket = std::move(ticket), decided = std::move(decided)](QuotaAnswer answer) mutable {
            http::Headers fields;
            add_states(fields, answer.states);
            if (answer.refused) {
                const api::ApiError error = quota_error(*answer.refused, fields);
                return refuse(error, ticket->event(), std::move(fields), decided);
            }
            admitted_.fetch_add(1, std::memory_order_relaxed);
            ticket->admit(std::move(answer.reservation));
            decided({std::move(ticket), std::nullopt, std::move(fields)});
        });
}

void AccountAdmission::settle(const Charge& charge, store::Event& event) {
    const std::int64_t tokens = charge.use.prompt_tokens + charge.use.completion_tokens;
    // What reads only (GET) reserves nothing, and counts for nothing.
    const std::int64_t requests = event.method == "POST" ? 1 : 0;
    quota_->settle(charge.reservation, {requests, tokens, charge.cost});
    prompt_tokens_.fetch_add(static_cast<std::uint64_t>(charge.use.prompt_tokens));
    completion_tokens_.fetch_add(static_cast<std::uint64_t>(charge.use.completion_tokens));
    if (!events_) return;
    event.prompt_tokens = charge.use.prompt_tokens;
    event.cached_tokens = charge.use.cached_tokens;
    event.completion_tokens = charge.use.completion_tokens;
    event.reasoning_tokens = charge.use.reasoning_tokens;
    event.cost = charge.cost;
    events_->add(event);
}

std::string AccountAdmission::metrics() const {
    std::string out = fmt::format(
        "# HELP retort:account_requests_admitted_total Requests let in.\n"
        "# TYPE retort:account_requests_admitted_total counter\nretort:account_requests_admitted_total {}\n"
        "# HELP retort:account_tokens_total Tokens charged to accounts.\n"
        "# TYPE retort:account_tokens_total counter\nretort:account_tokens_total{{kind=\"prompt\"}} {}\n"
        "retort:account_tokens_total{{kind=\"completion\"}} {}\n"
        "# HELP retort:account_requests_refused_total Requests refused, by code.\n"
        "# TYPE retort:account_requests_refused_total counter\n",
        admitted_.load(), prompt_tokens_.load(), completion_tokens_.load());
    for (std::size_t i = 0; i < refused_.size(); ++i) {
        out += fmt::format("retort:account_requests_refused_total{{code=\"{}\"}} {}\n", refusal_codes[i],
                           refused_[i].load());
    }
    const GuardCounts guard = directory_->guard_counts();
    out += fmt::format(
        "# HELP retort:guard_verdicts_total Verdicts of the guard in the store's trail.\n"
        "# TYPE retort:guard_verdicts_total counter\n");
    for (const auto& [level, count] : guard.verdicts)
        out += fmt::format("retort:guard_verdicts_total{{verdict=\"{}\"}} {}\n", level, count);
    out += fmt::format(
        "# HELP retort:guard_marked_accounts Accounts with a verdict that stands.\n"
        "# TYPE retort:guard_marked_accounts gauge\nretort:guard_marked_accounts {}\n",
        guard.marked);
    if (events_) {
        out += fmt::format(
            "# HELP retort:events_written_total Events on the disk.\n# TYPE retort:events_written_total "
            "counter\n"
            "retort:events_written_total {}\n"
            "# HELP retort:events_dropped_total Events lost to a full queue or disk.\n"
            "# TYPE retort:events_dropped_total counter\nretort:events_dropped_total {}\n",
            events_->written(), events_->dropped());
    }
    return out;
}

}  // namespace retort::serve
