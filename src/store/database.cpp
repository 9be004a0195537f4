#include "store/database.h"

#include <algorithm>

#include "store/backends.h"

namespace retort::store {

std::int64_t Row::integer(std::size_t column) const {
    const auto* value = std::get_if<std::int64_t>(&values_.at(column));
    return value != nullptr ? *value : 0;
}

std::string Row::text(std::size_t column) const {
    const auto* value = std::get_if<std::string>(&values_.at(column));
    return value != nullptr ? *value : std::string();
}

bool Row::is_null(std::size_t column) const {
    return std::holds_alternative<std::monostate>(values_.at(column));
}

Status Database::execute(const std::string& sql, std::initializer_list<Value> parameters) {
    RETORT_CHECK(query(sql, parameters));
    return {};
}

Status Database::transaction(const std::function<Status()>& work) {
    constexpr int tries = 5;
    for (int attempt = 1;; ++attempt) {
        RETORT_CHECK(begin());
        Status done = work();
        if (done) done = script("COMMIT");
        if (done) return {};
        const bool again = should_retry() && attempt < tries;
        (void)script("ROLLBACK");
        if (!again) return done;
    }
}

bool is_postgres(std::string_view location) {
    return location.starts_with("postgres://") || location.starts_with("postgresql://");
}

std::string shown_location(std::string_view location) {
    if (!is_postgres(location)) return std::string(location);
    const std::size_t begin = location.find("://") + 3;
    const std::size_t at = location.substr(0, location.find('/', begin)).rfind('@');
    const std::size_t colon = location.find(':', begin);
    std::string out(location);
    if (at != std::string_view::npos && colon < at) out.replace(colon, at - colon, ":…");
    // A password may also be a parameter.
    if (const std::size_t found = out.find("password="); found != std::string::npos) {
        const std::size_t value = found + std::string_view("password=").size();
        out.replace(value, std::min(out.find('&', value), out.size()) - value, "…");
    }
    return out;
}

Result<std::unique_ptr<Database>> open_database(const std::string& location) {
    if (location.empty()) {
        return fail(ErrorCode::invalid_argument, "the store needs a file's name or a postgres:// URL");
    }
    RETORT_TRY(auto database, is_postgres(location) ? open_postgres(location) : open_sqlite(location));
    if (Status done = migrate(*database); !done) return fail_from(done.error(), shown_location(location));
    return database;
}

}  // namespace retort::store
