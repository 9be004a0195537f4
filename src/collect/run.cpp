#include "collect/run.h"

#include <algorithm>
#include <utility>

#include "base/clock.h"
#include "base/interrupt.h"

namespace retort::collect {

namespace {
constexpr double poll_seconds = 0.05;  // how late Ctrl-C may be seen
constexpr int rejected_in_a_row_limit = 10;

struct CancelAtEnd {
    std::atomic<bool>& cancel;
    ~CancelAtEnd() { cancel = true; }
};

std::uint64_t seed_of(const CollectOptions& options) {
    return options.jitter_seed != 0 ? options.jitter_seed
                                    : static_cast<std::uint64_t>(base::unix_milliseconds());
}
}  // namespace

Run::Run(const CollectOptions& options, const Terms& terms, AnswerStore& store, std::vector<Item>& items,
         const Transport& transport, CollectReport& report)
    : options_(options),
      terms_(terms),
      store_(store),
      items_(items),
      transport_(transport),
      report_(report),
      meter_(options.budget, store.spent()),
      random_(seed_of(options), 0x636f6c6c656374),
      hedging_(options.hedge_share) {
    for (std::size_t i = 0; i < options.endpoints.size(); ++i) {
        servers_.push_back({options.endpoints[i], EndpointHealth(options.pressure, seed_of(options) + i)});
    }
    for (std::size_t i = 0; i < items.size(); ++i) {
        if (store.is_missing(items[i].id, items[i].request.max_tokens)) pending_.push_back(i);
    }
}

Status Run::go() {
    if (pending_.empty()) return {};
    const std::size_t most_at_once =
        std::min(pending_.size() * (hedging_.on() ? 2 : 1),
                 servers_.size() * static_cast<std::size_t>(options_.pressure.max_concurrency));
    RETORT_TRY(
        const auto workers,
        Workers::start(static_cast<int>(std::min<std::size_t>(most_at_once, 512)), [this](const Job& job) {
            return ask(transport_, servers_[job.endpoint].endpoint, items_[job.item].request, options_.ask,
                       [this, &job] {
                           return cancel_.load(std::memory_order_relaxed) ||
                                  job.cancel->load(std::memory_order_relaxed);
                       });
        }));
    // However it ends (a full disk, too), what is still in flight is not waited for.
    const CancelAtEnd cancel_at_end{cancel_};
    base::Progress progress("collect", static_cast<std::uint64_t>(report_.wanted), "answers", options_.quiet);
    progress.set_resumed(static_cast<std::uint64_t>(report_.there_before));
    start_ = last_answer_ = base::monotonic_seconds();
    while (in_flight_ > 0 || (!stopping_ && (!pending_.empty() || !later_.empty()))) {
        double now = base::monotonic_seconds();
        look_for_end(now);
        if (!stopping_) dispatch(*workers, now);
        if (in_flight_ == 0 && stopping_) break;
        auto finished = workers->take(seconds_to_wait(now));
        now = base::monotonic_seconds();
        while (finished) {
            RETORT_CHECK(settle(*finished, now));
            finished = workers->take(0);
        }
        RETORT_CHECK(store_.sync_if_due(now));
        progress.update(static_cast<std::uint64_t>(report_.there_before + report_.asked), note());
    }
    RETORT_CHECK(store_.sync_if_due(base::monotonic_seconds(), true));
    report_.spent = meter_.spent();
    report_.seconds = base::monotonic_seconds() - start_;
    if (error_) return tl::unexpected<base::Error>(*error_);
    progress.finish(note());
    return {};
}

// Starts what may start now, servers taking turns.
void Run::dispatch(Workers& workers, double now) {
    while (!later_.empty() && later_.begin()->first <= now) {
        pending_.push_front(later_.begin()->second);
        later_.erase(later_.begin());
    }
    if (hedging_.on()) hedge(workers, now);
    for (std::size_t idle = 0; idle < servers_.size() && !pending_.empty() && !stopping_;) {
        const std::size_t server = next_server_++ % servers_.size();
        const bool room = in_flight_ < workers.threads() && servers_[server].health.may_start(now);
        if (!room || !admit(items_[pending_.front()])) {
            ++idle;
            continue;
        }
        idle = 0;
        spdlog::debug("collect: asks {}", items_[pending_.front()].id);
        hedging_.asked();
        begin(workers, pending_.front(), server, now);
        pending_.pop_front();
    }
}

// A second request for each answer that is among the slowest, before new work: it is little, and late
// already.
void Run::hedge(Workers& workers, double now) {
    for (auto& [item, flight] : flights_) {
        if (flight.hedged || flight.answered || now - flight.started_at <= hedging_.slow_after()) continue;
        if (!hedging_.may_hedge() || in_flight_ >= workers.threads()) return;
        const auto server = server_for_second(flight.endpoint, now);
        // Where the budget ends is for admit() to say.
        if (!server || !meter_.reserve(items_[item].most)) return;
        spdlog::debug("collect: asks {} a second time", items_[item].id);
        flight.hedged = true;
        hedging_.hedged();
        ++report_.hedges;
        begin(workers, item, *server, now);
    }
}

// Another server if there is one that may be asked.
std::optional<std::size_t> Run::server_for_second(std::size_t first, double now) const {
    for (std::size_t i = 1; i <= servers_.size(); ++i) {
        const std::size_t server = (first + i) % servers_.size();
        if (servers_[server].health.may_start(now)) return server;
    }
    return std::nullopt;
}

void Run::begin(Workers& workers, std::size_t item, std::size_t endpoint, double now) {
    const auto [place, is_first] = flights_.try_emplace(item);
    Flight& flight = place->second;
    if (is_first) {
        flight.started_at = now;
        flight.endpoint = endpoint;
    }
    ++flight.in_flight;
    flight.cancels.push_back(std::make_shared<std::atomic<bool>>(false));
    servers_[endpoint].health.started();
    report_.peak_in_flight = std::max(report_.peak_in_flight, ++in_flight_);
    workers.give({item, endpoint, now, !is_first, flight.cancels.back()});
}

// The budget's leave. What is in flight will mostly take less than the most it can, so only an idle run is
// stopped.
bool Run::admit(const Item& item) {
    if (meter_.reserve(item.most)) return true;
    if (in_flight_ == 0) {
        report_.stopped = "budget: " + meter_.stopped_by(item.most).value_or("nothing left");
        stopping_ = true;
    }
    return false;
}

void Run::look_for_end(double now) {
    if (stopping_) {
        if (cancel_at_ > 0 && now >= cancel_at_) cancel_ = true;
        return;
    }
    if (base::interrupted()) {
        stop({ErrorCode::cancelled, "interrupted; " + what_is_kept()});
        cancel_at_ = now + options_.interrupt_grace;
        return;
    }
    if (options_.budget.max_seconds > 0 && now - start_ >= options_.budget.max_seconds) {
        report_.stopped =
            fmt::format("budget: {} of time used", base::duration_text(options_.budget.max_seconds));
        stopping_ = true;
        cancel_ = true;
        return;
    }
    const bool all_dead = std::all_of(servers_.begin(), servers_.end(), [&](const Server& server) {
        return server.health.failures_in_a_row() >= options_.dead_after;
    });
    if (all_dead) {
        stop({ErrorCode::network,
              fmt::format("{} does not answer ({} tries in a row): {}; {}", servers_.front().endpoint.url,
                          options_.dead_after, last_reason_, what_is_kept())});
    } else if (now - last_answer_ > options_.stall_seconds &&
               (report_.overloads > 0 || report_.retries > 0)) {
        stop({ErrorCode::network,
              fmt::format("no answer for {}: {}; {}", base::duration_text(options_.stall_seconds),
                          last_reason_, what_is_kept())});
    }
}

void Run::stop(base::Error error) {
    if (!error_) error_ = std::move(error);
    stopping_ = true;
    if (cancel_at_ == 0) cancel_at_ = base::monotonic_seconds() + options_.interrupt_grace;
}

double Run::seconds_to_wait(double now) const {
    // Outcomes wake the loop; otherwise it looks for Ctrl-C, or a server is ready again.
    double wake = now + poll_seconds;
    if (!later_.empty()) wake = std::min(wake, later_.begin()->first);
    for (const Server& server : servers_) {
        if (!pending_.empty() && server.health.ready_at() > now)
            wake = std::min(wake, server.health.ready_at());
    }
    return std::max(wake - now, 0.001);
}

// What an outcome says of the endpoint, whatever becomes of the request.
void Run::settle_endpoint(const Finished& finished, double now) {
    const Outcome& outcome = finished.outcome;
    const Server& server = servers_[finished.job.endpoint];
    EndpointHealth& health = servers_[finished.job.endpoint].health;
    const double started_at = finished.job.started_at;
    switch (outcome.kind) {
        case OutcomeKind::answered:
            health.succeeded(now);
            return;
        case OutcomeKind::overloaded:
            health.overloaded(now, started_at, outcome.retry_after);
            ++report_.overloads;
            if (outcome.retry_after > options_.max_retry_after) {
                stop({ErrorCode::network,
                      fmt::format("{} asks to wait {} ({}); {}", server.endpoint.url,
                                  base::duration_text(outcome.retry_after), outcome.reason, what_is_kept())});
            }
            return;
        case OutcomeKind::failed:
            health.failed(now, started_at, outcome.retry_after);
            return;
        case OutcomeKind::rejected:
        case OutcomeKind::too_long:
        case OutcomeKind::cancelled:
            health.ended();
            return;
        case OutcomeKind::fatal:
            health.ended();
            stop({ErrorCode::network, fmt::format("{} will not answer {}: {}; {}", server.endpoint.url,
                                                  options_.model, outcome.reason, what_is_kept())});
            return;
    }
}

Status Run::settle(const Finished& finished, double now) {
    Item& item = items_[finished.job.item];
    const Outcome& outcome = finished.outcome;
    --in_flight_;
    settle_endpoint(finished, now);
    Flight& flight = flights_.at(finished.job.item);
    const bool last = --flight.in_flight == 0;
    if (flight.answered) {
        const Status settled = settle_second(item, flight, outcome);
        flights_.erase(finished.job.item);
        return settled;
    }
    if (outcome.kind != OutcomeKind::cancelled) ++item.attempts;
    if (outcome.kind == OutcomeKind::answered) {
        hedging_.answered(now - flight.started_at);
        report_.hedges_first += finished.job.second ? 1 : 0;
        flight.answered = true;
        flight.usage = outcome.record.usage;
        for (const auto& cancel : flight.cancels) cancel->store(true, std::memory_order_relaxed);
        if (last) flights_.erase(finished.job.item);
        return settle_answer(item, finished, now);
    }
    // Nothing came back: what it cost, if anything, is not known; the request itself counts.
    meter_.settle(item.most, {});
    if (outcome.kind != OutcomeKind::cancelled) last_reason_ = outcome.reason;
    if (!last) return {};  // the other request for it may still be answered
    flights_.erase(finished.job.item);
    switch (outcome.kind) {
        case OutcomeKind::failed:
            if (++item.faults >= options_.max_attempts &&
                !servers_[finished.job.endpoint].health.breaker_open()) {
                ++report_.gave_up;
                return settle_failure(item, outcome, "gave_up");
            }
            ++report_.retries;
            later_.emplace(now + full_jitter(random_, static_cast<int>(item.faults),
                                             options_.pressure.backoff_base_seconds,
                                             options_.pressure.backoff_max_seconds),
                           finished.job.item);
            return {};
        case OutcomeKind::rejected:
            ++report_.rejected;
            if (++rejected_in_a_row_ >= rejected_in_a_row_limit && report_.asked == 0) {
                stop({ErrorCode::invalid_argument,
                      fmt::format("{} rejects every request: {}",
                                  servers_[finished.job.endpoint].endpoint.url, outcome.reason)});
            }
            return settle_failure(item, outcome, "rejected");
        case OutcomeKind::too_long:
            ++report_.too_long;
            return settle_failure(item, outcome, "too_long");
        default:  // again, in this run or the next
            pending_.push_front(finished.job.item);
            return {};
    }
}

// A server that counts no tokens is charged what they can be at most.
Estimate Run::used_by(const Item& item, const data::Usage& usage) const {
    const bool counted = usage.prompt_tokens > 0 || usage.completion_tokens > 0;
    return counted ? Estimate{usage.prompt_tokens, usage.completion_tokens} : item.most;
}

Status Run::settle_answer(Item& item, const Finished& finished, double now) {
    data::Record record = finished.outcome.record;
    const data::Prompt& prompt = options_.prompts[item.prompt];
    record.prompt_id = prompt.id;
    record.metadata = prompt.metadata;
    record.terms_id = terms_.id;
    record.terms_sha256 = terms_.sha256;
    record.attempts = item.attempts;
    record.cost = meter_.price(record.usage.prompt_tokens, record.usage.completion_tokens);
    meter_.settle(item.most, used_by(item, record.usage));
    ++report_.asked;
    rejected_in_a_row_ = 0;
    last_answer_ = now;
    return store_.add(record);
}

// The slower of two requests for the same answer: what it brought is not kept, what it cost is counted.
Status Run::settle_second(const Item& item, const Flight& flight, const Outcome& outcome) {
    Estimate used;
    if (outcome.kind == OutcomeKind::answered) used = used_by(item, outcome.record.usage);
    if (outcome.kind == OutcomeKind::cancelled) {
        // Cut off: of the same prompt, and of an answer that the server may charge for up to its limit.
        used = used_by(item, flight.usage);
        used.completion_tokens = std::max(used.completion_tokens, options_.max_tokens);
    }
    meter_.settle(item.most, used);
    return store_.add(Payment{.id = item.id,
                              .prompt_tokens = used.prompt_tokens,
                              .completion_tokens = used.completion_tokens,
                              .cost = meter_.price(used.prompt_tokens, used.completion_tokens)});
}

Status Run::settle_failure(Item& item, const Outcome& outcome, std::string_view kind) {
    ++report_.failures[outcome.reason];
    return store_.add(Failure{.id = item.id,
                              .prompt_id = options_.prompts[item.prompt].id,
                              .sample = item.request.sample,
                              .kind = std::string(kind),
                              .reason = outcome.reason,
                              .status = outcome.status,
                              .attempts = item.attempts,
                              .time = base::utc_now()});
}

std::string Run::note() const {
    std::string text = fmt::format("{} in flight", in_flight_);
    const Spent& now = meter_.spent();
    const auto missing =
        static_cast<std::int64_t>(pending_.size() + later_.size()) +
        std::count_if(flights_.begin(), flights_.end(), [](const auto& one) { return !one.second.answered; });
    const auto whole = spent_in_the_end(report_.spent, now, report_.asked, missing);
    const auto tokens = [](const Spent& spent) { return spent.prompt_tokens + spent.completion_tokens; };
    if (now.cost > 0) {
        text += fmt::format(", {:.4f} spent", now.cost);
        if (whole) text += fmt::format(" of about {:.4f}", whole->cost);
    } else if (tokens(now) > 0) {
        text += fmt::format(", {} tokens", tokens(now));
        if (whole) text += fmt::format(" of about {}", tokens(*whole));
    }
    if (report_.hedges > 0) text += fmt::format(", {} asked twice", report_.hedges);
    if (report_.overloads > 0) text += fmt::format(", {} times overloaded", report_.overloads);
    return text;
}

std::string Run::what_is_kept() const {
    const std::int64_t kept = report_.there_before + report_.asked;
    return fmt::format("{} of {} answers are kept, and the same command goes on from there", kept,
                       report_.wanted);
}

}  // namespace retort::collect
