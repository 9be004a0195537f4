// The loop of one collecting run: what to ask next, of whom, and what each outcome means. One thread decides;
// time and limits are looked at between outcomes. Private to this part.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/log.h"
#include "collect/answers.h"
#include "collect/collect.h"
#include "collect/hedging.h"
#include "collect/terms.h"
#include "collect/workers.h"

namespace retort::collect {

struct Item {
    std::size_t prompt = 0;
    data::RequestShape request;
    std::string id;
    Estimate most;
    std::int64_t attempts = 0;  // requests made
    std::int64_t faults = 0;    // of them, those that failed while the server was not overloaded
};

// The requests in flight for one item: one, or two when the first was slow.
struct Flight {
    double started_at = 0;  // the first
    std::size_t endpoint = 0;
    int in_flight = 0;
    bool hedged = false;
    bool answered = false;  // by one; the other is only waited for
    data::Usage usage;      // of that answer
    std::vector<std::shared_ptr<std::atomic<bool>>> cancels;
};

class Run {
  public:
    Run(const CollectOptions& options, const Terms& terms, AnswerStore& store, std::vector<Item>& items,
        const Transport& transport, CollectReport& report);

    // Until nothing is missing, the budget stops it (report.stopped) or an error ends it.
    Status go();

  private:
    struct Server {
        Endpoint endpoint;
        EndpointHealth health;
    };

    void dispatch(Workers& workers, double now);
    void hedge(Workers& workers, double now);
    void begin(Workers& workers, std::size_t item, std::size_t endpoint, double now);
    [[nodiscard]] std::optional<std::size_t> server_for_second(std::size_t first, double now) const;
    bool admit(const Item& item);
    Status settle(const Finished& finished, double now);
    void settle_endpoint(const Finished& finished, double now);
    Status settle_answer(Item& item, const Finished& finished, double now);
    Status settle_second(const Item& item, const Flight& flight, const Outcome& outcome);
    [[nodiscard]] Estimate used_by(const Item& item, const data::Usage& usage) const;
    Status settle_failure(Item& item, const Outcome& outcome, std::string_view kind);
    void look_for_end(double now);
    void stop(base::Error error);
    [[nodiscard]] double seconds_to_wait(double now) const;
    [[nodiscard]] std::string note() const;
    [[nodiscard]] std::string what_is_kept() const;

    const CollectOptions& options_;
    const Terms& terms_;
    AnswerStore& store_;
    std::vector<Item>& items_;
    const Transport& transport_;
    CollectReport& report_;
    BudgetMeter meter_;
    base::RandomStream random_;
    std::vector<Server> servers_;
    std::size_t next_server_ = 0;
    std::deque<std::size_t> pending_;
    std::multimap<double, std::size_t> later_;  // not before that time
    std::map<std::size_t, Flight> flights_;     // by item
    Hedging hedging_;
    std::atomic<bool> cancel_{false};
    int in_flight_ = 0;
    int rejected_in_a_row_ = 0;
    double start_ = 0;
    double last_answer_ = 0;
    double cancel_at_ = 0;  // 0: not stopping
    bool stopping_ = false;
    std::string last_reason_;
    std::optional<base::Error> error_;
};

}  // namespace retort::collect
