// Admission by accounts: key, terms, plan, limits; and an event for each request. Knows no engine and no
// other server.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <string>

#include "guard/sketch.h"
#include "serve/accounts_directory.h"
#include "serve/admission.h"
#include "serve/quota.h"
#include "store/event_log.h"

namespace retort::serve {

struct AccountsOptions {
    std::string location;      // as of store::open_database
    std::string secret_file;   // empty: the location with ".secret" behind it, made if absent; SQLite only
    std::string event_folder;  // empty: no event log
    std::int64_t event_retention_days = 90;
    bool log_bodies = false;
    AccountDirectory::Options directory;
    Quota::Options quota;
};

// The secret that belongs to a store.
Result<store::Secret> store_secret(const std::string& location, const std::string& secret_file);

class AccountAdmission : public Admission {
  public:
    static Result<std::shared_ptr<AccountAdmission>> open(const AccountsOptions& options);

    void admit(const http::ServerRequest& request, std::function<void(Admitted)> decided) override;
    void stop() override;
    // Prometheus' text: admitted and refused requests by code, tokens, events lost.
    [[nodiscard]] std::string metrics() const override;

    AccountDirectory& directory() { return *directory_; }
    // The newest requests of the event log, the newest first; none without a log.
    [[nodiscard]] std::vector<store::Event> recent() const {
        return events_ ? events_->recent() : std::vector<store::Event>();
    }

    // For its tickets.
    struct Charge {
        Reservation reservation;
        TokenUse use;
        std::int64_t cost = 0;
    };
    // Completes the event, and logs it.
    void settle(const Charge& charge, store::Event& event);

  private:
    AccountAdmission() = default;
    std::optional<api::ApiError> check(const http::ServerRequest& request,
                                       const std::shared_ptr<const Caller>& caller, bool has_key,
                                       http::Headers& headers) const;
    void describe(store::Event& event, const http::ServerRequest& request, const Caller* caller);
    void refuse(const api::ApiError& error, store::Event& event, http::Headers headers,
                const std::function<void(Admitted)>& decided);

    std::unique_ptr<AccountDirectory> directory_;
    std::unique_ptr<Quota> quota_;
    std::unique_ptr<store::EventLog> events_;
    std::weak_ptr<AccountAdmission> self_;
    bool log_bodies_ = false;
    guard::SketchKey sketch_key_;
    std::atomic<std::uint64_t> admitted_{0};
    std::atomic<std::uint64_t> prompt_tokens_{0};
    std::atomic<std::uint64_t> completion_tokens_{0};
    std::array<std::atomic<std::uint64_t>, 6> refused_{};
};

}  // namespace retort::serve
