#include "serve/accounts_admin.h"

#include <algorithm>
#include <charconv>
#include <condition_variable>
#include <deque>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "base/clock.h"
#include "base/log.h"
#include "base/strings.h"
#include "guard/enforcer.h"
#include "guard/trail.h"
#include "store/ledger.h"

namespace retort::serve {

namespace {

using Json = nlohmann::ordered_json;
constexpr std::size_t max_waiting = 256;
constexpr std::ptrdiff_t most_named =
    200;  // accounts of a verdict in one answer; `accounts_raised` counts all

struct Answer {
    int status = 200;
    std::string body;
};

Answer answer_of(const Json& json, int status = 200) {
    return {status, json.dump(-1, ' ', false, Json::error_handler_t::replace)};
}

Answer answer_of(const base::Error& error) {
    api::ApiError out;
    out.message = error.message;
    out.code = "invalid_value";
    if (error.code != ErrorCode::invalid_argument) out = api::server_error(error.message);
    return {out.status, api::write_error(out)};
}

template <typename T>
Json list_of(const std::vector<T>& all) {
    Json data = Json::array();
    for (const T& each : all) data.push_back(store::to_json(each));
    return {{"object", "list"}, {"data", std::move(data)}};
}

// "/admin/keys/ID/revoke" → {"keys", "ID", "revoke"}
std::vector<std::string> parts_of(std::string_view path) {
    std::vector<std::string> parts;
    path.remove_prefix(std::string_view("/admin/").size());
    while (!path.empty()) {
        const std::size_t end = std::min(path.find('/'), path.size());
        parts.emplace_back(path.substr(0, end));
        path.remove_prefix(std::min(end + 1, path.size()));
    }
    return parts;
}

std::string query_value(std::string_view query, std::string_view name) {
    while (!query.empty()) {
        const std::size_t end = std::min(query.find('&'), query.size());
        const std::string_view pair = query.substr(0, end);
        if (pair.size() > name.size() && pair.starts_with(name) && pair[name.size()] == '=') {
            return std::string(pair.substr(name.size() + 1));
        }
        query.remove_prefix(std::min(end + 1, query.size()));
    }
    return {};
}

std::int64_t query_number(std::string_view query, std::string_view name, std::int64_t otherwise) {
    const std::string text = query_value(query, name);
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    return error == std::errc() && end == text.data() + text.size() && !text.empty() ? number : otherwise;
}

class StoreAdmin : public AdminRoutes {
  public:
    StoreAdmin(std::unique_ptr<store::Database> database, std::unique_ptr<store::Accounts> accounts,
               std::shared_ptr<AccountAdmission> admission)
        : database_(std::move(database)),
          accounts_(std::move(accounts)),
          admission_(std::move(admission)),
          thread_([this] { run(); }) {}
    ~StoreAdmin() override { stop(); }
    StoreAdmin(const StoreAdmin&) = delete;
    StoreAdmin& operator=(const StoreAdmin&) = delete;

    void answer(http::ServerRequest request, std::shared_ptr<http::ResponseWriter> writer,
                http::Headers headers) override {
        const std::string_view key = key_of(request);
        const auto caller = key.empty() ? nullptr : admission_->directory().find(key);
        if (!caller || admission_->directory().is_stale()) {
            headers.set("WWW-Authenticate", "Bearer");
            const api::ApiError error = api::invalid_api_key("The admin API needs a key of the role admin.");
            return writer->send(error.status, std::move(headers), api::write_error(error));
        }
        if (caller->role != "admin" || caller->account->suspended) {
            const api::ApiError error{403, "This key has not the role admin.", "invalid_request_error",
                                      std::nullopt, "terms_not_accepted"};
            return writer->send(error.status, std::move(headers), api::write_error(error));
        }
        // No cookie opens this, so that no other page can ask in somebody's name; a browser that says it is
        // another page's request is refused all the same.
        if (request.headers.get("Sec-Fetch-Site", "none") == "cross-site") {
            const api::ApiError error{403, "The admin API answers no page of another site.",
                                      "invalid_request_error", std::nullopt, std::nullopt};
            return writer->send(error.status, std::move(headers), api::write_error(error));
        }
        headers.set("Cache-Control", "no-store");
        {
            const std::lock_guard lock(mutex_);
            if (!stopping_ && waiting_.size() < max_waiting) {
                waiting_.push_back({std::move(request), std::move(writer), std::move(headers)});
                wake_.notify_one();
                return;
            }
        }
        const api::ApiError error = api::unavailable("Too many admin requests are waiting.");
        writer->send(error.status, std::move(headers), api::write_error(error));
    }

    void stop() override {
        const std::lock_guard once(stop_mutex_);
        {
            const std::lock_guard lock(mutex_);
            stopping_ = true;
            wake_.notify_all();
        }
        if (thread_.joinable()) thread_.join();
    }

  private:
    struct Waiting {
        http::ServerRequest request;
        std::shared_ptr<http::ResponseWriter> writer;
        http::Headers headers;
    };

    void run() {
        for (;;) {
            Waiting next;
            {
                std::unique_lock lock(mutex_);
                wake_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
                if (waiting_.empty()) return;
                next = std::move(waiting_.front());
                waiting_.pop_front();
            }
            const Answer answer = route(next.request);
            if (next.request.method != "GET") {
                spdlog::info("admin {} {} {}", base::one_line(next.request.method, 16),
                             base::one_line(next.request.path, 200), answer.status);
            }
            // Whoever changed something finds it changed here at once; other servers learn of it by
            // themselves.
            if (next.request.method == "POST") (void)admission_->directory().refresh();
            next.writer->send(answer.status, std::move(next.headers), answer.body);
        }
    }

    Answer route(const http::ServerRequest& request) {
        const std::vector<std::string> parts = parts_of(request.path);
        const bool get = request.method == "GET";
        const bool post = request.method == "POST";
        if (get && parts.size() == 1) return read(parts[0], request);
        if (post && (parts.size() == 1 || parts.size() == 3)) {
            const auto body = request.body.empty() ? nlohmann::json::object()
                                                   : nlohmann::json::parse(request.body, nullptr, false);
            if (!body.is_object())
                return answer_of(base::Error{ErrorCode::invalid_argument, "The body is not a JSON object."});
            return parts.size() == 1 ? create(parts[0], body) : act(parts[0], parts[1], parts[2], body);
        }
        return {404, api::write_error(api::route_not_found(request.method, request.path))};
    }

    Answer read(const std::string& what, const http::ServerRequest& request) {
        const auto listed = [](const auto& all) {
            return all ? answer_of(list_of(*all)) : answer_of(all.error());
        };
        if (what == "accounts") return listed(accounts_->accounts());
        if (what == "plans") return listed(accounts_->plans());
        if (what == "terms") return listed(accounts_->terms());
        if (what == "keys") return listed(accounts_->keys(query_value(request.query, "account")));
        if (what == "usage") return usage(request);
        if (what == "guard") return guard(request);
        if (what == "requests") return requests(request);
        return {404, api::write_error(api::route_not_found(request.method, request.path))};
    }

    // The trail's newest entries, the newest first, its head, and the accounts that bear a mark.
    Answer guard(const http::ServerRequest& request) {
        const std::int64_t most =
            std::clamp<std::int64_t>(query_number(request.query, "limit", 200), 1, 1000);
        store::Marks marks(*database_, admission_->directory().secret());
        const auto head = marks.head();
        if (!head) return answer_of(head.error());
        const auto trail = marks.trail(std::max<std::int64_t>(0, head->entries - most), most);
        if (!trail) return answer_of(trail.error());
        const auto all = marks.marks();
        if (!all) return answer_of(all.error());
        Json data = Json::array();
        for (auto entry = trail->rbegin(); entry != trail->rend(); ++entry) {
            Json row = {{"number", entry->number}, {"time", entry->time}, {"kind", entry->kind}};
            const auto body = guard::readable_body(*entry);
            row["entry"] = body ? Json::parse(entry->body, nullptr, false) : Json();
            if (!body) row["unreadable"] = body.error().message;
            if (body && entry->kind == "verdict" && std::ssize(row["entry"]["accounts"]) > most_named) {
                Json& accounts = row["entry"]["accounts"];
                accounts.erase(accounts.begin() + most_named, accounts.end());
            }
            data.push_back(std::move(row));
        }
        Json marked = Json::array();
        for (const store::AccountMark& each : *all) {
            if (each.mark == store::Mark{}) continue;
            Json row = store::to_json(each.mark);
            row["account"] = each.account;
            marked.push_back(std::move(row));
        }
        return answer_of(Json{{"object", "list"},
                              {"head", {{"entries", head->entries}, {"hash", head->hash}}},
                              {"data", std::move(data)},
                              {"marks", std::move(marked)}});
    }

    // An appeal granted, or an allowance ended, by whoever holds the admin key.
    Answer judge(const std::string& account, const std::string& action, const nlohmann::json& body) {
        guard::Enforcer enforcer(*database_, admission_->directory().secret(), *accounts_, guard::Policy{});
        const Json shown = {{"id", account}, {"done", action}};
        const std::int64_t now = base::unix_milliseconds() / 1000;
        if (action == "allow")
            return done(enforcer.allow(account, text(body, "reason"), text(body, "by"), now), shown);
        return done(enforcer.disallow(account, text(body, "by"), now), shown);
    }

    Answer usage(const http::ServerRequest& request) {
        const std::string per = query_value(request.query, "per");
        std::size_t span = 1;
        for (std::size_t i = 0; i < store::spans; ++i) {
            if (per == store::span_name(i)) span = i;
        }
        constexpr std::int64_t reach[] = {86'400, 31 * 86'400, 400 * 86'400};
        const std::int64_t earliest = base::unix_milliseconds() / 1000 - reach[span];
        const std::int64_t since = query_number(request.query, "since", earliest);
        store::Ledger ledger(*database_, "admin");
        const auto rows =
            ledger.usage(query_value(request.query, "account"), span, std::max(since, earliest));
        if (!rows) return answer_of(rows.error());
        Json data = Json::array();
        for (const store::UsageRow& row : *rows) {
            data.push_back({{"account", row.account},
                            {"unit", store::unit_name(row.unit)},
                            {"span", store::span_name(row.span)},
                            {"start", row.start},
                            {"used", row.used},
                            {"reserved", row.leased}});
        }
        return answer_of(Json{{"object", "list"}, {"data", std::move(data)}});
    }

    // The newest that asked for something, or were refused: not every look at a list.
    Answer requests(const http::ServerRequest& request) {
        const auto most = static_cast<std::size_t>(
            std::clamp<std::int64_t>(query_number(request.query, "limit", 100), 1, 1000));
        const std::string wanted = query_value(request.query, "account");
        const std::vector<store::Event> recent = admission_->recent();
        std::set<store::ShortHash> hashes;
        for (const store::Event& event : recent) {
            hashes.insert(event.account);
            hashes.insert(event.key);
        }
        hashes.erase(store::ShortHash{});
        const auto names = admission_->directory().names_of(hashes);
        const auto name_of = [&](const store::ShortHash& hash) {
            const auto found = names.find(hash);
            return found == names.end() ? std::string() : found->second;
        };
        Json data = Json::array();
        for (const store::Event& event : recent) {
            if (event.method == "GET" && event.status < 400) continue;
            const std::string account = name_of(event.account);
            if (!wanted.empty() && account != wanted) continue;
            Json row = Json::parse(store::event_json(event));
            for (const char* hidden : {"address", "user_agent", "body"}) row.erase(hidden);
            row["account"] = account;
            row["key"] = name_of(event.key);
            data.push_back(std::move(row));
            if (data.size() == most) break;
        }
        return answer_of(Json{{"object", "list"}, {"data", std::move(data)}});
    }

    // A string of the body; "" when it is absent or none.
    static std::string text(const nlohmann::json& body, const char* name) {
        const auto found = body.find(name);
        return found != body.end() && found->is_string() ? found->get<std::string>() : std::string();
    }
    static std::int64_t number(const nlohmann::json& body, const char* name, std::int64_t otherwise) {
        const auto found = body.find(name);
        return found != body.end() && found->is_number_integer() ? found->get<std::int64_t>() : otherwise;
    }
    static Answer done(const Status& status, const Json& json) {
        return status ? answer_of(json) : answer_of(status.error());
    }
    static Answer new_key(const Result<store::NewKey>& key) {
        if (!key) return answer_of(key.error());
        return answer_of(Json{{"id", key->id}, {"key", key->text}}, 201);
    }

    Answer create(const std::string& what, const nlohmann::json& body) {
        if (what == "accounts") {
            const auto account = accounts_->create_account(text(body, "name"), text(body, "plan"));
            return account ? answer_of(store::to_json(*account), 201) : answer_of(account.error());
        }
        if (what == "plans") {
            const auto plan = store::plan_from_json(body, store::Plan{});
            if (!plan) return answer_of(plan.error());
            return done(accounts_->set_plan(*plan), store::to_json(*plan));
        }
        if (what == "terms") {
            const std::string version = text(body, "version");
            return done(accounts_->publish_terms(version, text(body, "text")), Json{{"version", version}});
        }
        if (what == "keys") {
            const std::string role = text(body, "role");
            return new_key(accounts_->create_key(text(body, "account"), text(body, "name"),
                                                 role.empty() ? "user" : role, number(body, "days", 0)));
        }
        return {404, api::write_error(api::route_not_found("POST", "/admin/" + what))};
    }

    Answer act(const std::string& what, const std::string& id, const std::string& action,
               const nlohmann::json& body) {
        const Json shown = {{"id", id}, {"done", action}};
        if (what == "keys" && action == "revoke") return done(accounts_->revoke_key(id), shown);
        if (what == "keys" && action == "rotate") {
            return new_key(accounts_->rotate_key(id, number(body, "grace_seconds", 86'400)));
        }
        if (what == "accounts" && action == "plan") {
            return done(accounts_->set_account_plan(id, text(body, "plan")), shown);
        }
        if (what == "accounts" && action == "suspend")
            return done(accounts_->suspend(id, text(body, "reason")), shown);
        if (what == "accounts" && (action == "allow" || action == "disallow")) return judge(id, action, body);
        if (what == "accounts" && action == "resume") return done(accounts_->resume(id), shown);
        if (what == "accounts" && action == "accept") {
            return done(accounts_->accept_terms(id, text(body, "version"), text(body, "by")), shown);
        }
        return {404,
                api::write_error(api::route_not_found("POST", "/admin/" + what + "/" + id + "/" + action))};
    }

    std::unique_ptr<store::Database> database_;
    std::unique_ptr<store::Accounts> accounts_;
    std::shared_ptr<AccountAdmission> admission_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<Waiting> waiting_;
    bool stopping_ = false;
    std::mutex stop_mutex_;
    std::thread thread_;
};

}  // namespace

Result<std::shared_ptr<AdminRoutes>> open_admin_routes(const AccountsOptions& options,
                                                       std::shared_ptr<AccountAdmission> admission) {
    RETORT_TRY(auto database, store::open_database(options.location));
    RETORT_TRY(store::Accounts accounts, store::Accounts::open(*database, admission->directory().secret()));
    auto owned = std::make_unique<store::Accounts>(std::move(accounts));
    return std::make_shared<StoreAdmin>(std::move(database), std::move(owned), std::move(admission));
}

}  // namespace retort::serve
