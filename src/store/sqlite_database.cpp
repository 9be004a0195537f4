#include <sqlite3.h>

#include <map>

#include "store/backends.h"

namespace retort::store {

namespace {

constexpr int busy_milliseconds = 10'000;  // for another process's transaction to end
constexpr int backup_pages = 256;          // a step of the copy, between which others may write

struct CloseStatement {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using Statement = std::unique_ptr<sqlite3_stmt, CloseStatement>;

class SqliteDatabase : public Database {
  public:
    explicit SqliteDatabase(std::string path) : path_(std::move(path)) {}
    ~SqliteDatabase() override {
        statements_.clear();
        sqlite3_close(handle_);
    }
    SqliteDatabase(const SqliteDatabase&) = delete;
    SqliteDatabase& operator=(const SqliteDatabase&) = delete;

    Status open() {
        constexpr int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
        if (sqlite3_open_v2(path_.c_str(), &handle_, flags, nullptr) != SQLITE_OK)
            return error("cannot open");
        sqlite3_busy_timeout(handle_, busy_milliseconds);
        // NORMAL with a write-ahead log: nothing is lost by kill -9; a power cut may take the last moments.
        return script("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;");
    }

    Result<std::vector<Row>> query(const std::string& sql, std::span<const Value> parameters) override {
        RETORT_TRY(sqlite3_stmt* const statement, prepared(sql));
        for (std::size_t i = 0; i < parameters.size(); ++i) {
            const std::string name = "$" + std::to_string(i + 1);
            const int index = sqlite3_bind_parameter_index(statement, name.c_str());
            if (index == 0) continue;
            if (const auto* number = std::get_if<std::int64_t>(&parameters[i])) {
                sqlite3_bind_int64(statement, index, *number);
            } else if (const auto* text = std::get_if<std::string>(&parameters[i])) {
                sqlite3_bind_text64(statement, index, text->data(), text->size(), SQLITE_TRANSIENT,
                                    SQLITE_UTF8);
            } else {
                sqlite3_bind_null(statement, index);
            }
        }
        std::vector<Row> rows;
        int code = SQLITE_ROW;
        while ((code = sqlite3_step(statement)) == SQLITE_ROW) rows.push_back(row_of(statement));
        if (code != SQLITE_DONE) {
            auto failed = error(sql);
            sqlite3_reset(statement);
            return failed;
        }
        sqlite3_reset(statement);
        return rows;
    }

    Status script(const std::string& sql) override {
        if (sqlite3_exec(handle_, sql.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) return error(sql);
        return {};
    }

    [[nodiscard]] std::string_view lock_rows() const override { return ""; }
    [[nodiscard]] bool is_shared() const override { return false; }

    Status backup(const std::filesystem::path& to) override {
        const std::filesystem::path temporary = to.string() + ".partial";
        std::error_code ignored;
        std::filesystem::remove(temporary, ignored);
        sqlite3* copy = nullptr;
        int code = sqlite3_open(temporary.c_str(), &copy);
        if (code == SQLITE_OK) {
            sqlite3_backup* const job = sqlite3_backup_init(copy, "main", handle_, "main");
            code = sqlite3_errcode(copy);
            if (job != nullptr) {
                do {
                    code = sqlite3_backup_step(job, backup_pages);
                    if (code == SQLITE_BUSY || code == SQLITE_LOCKED) sqlite3_sleep(5);
                } while (code == SQLITE_OK || code == SQLITE_BUSY || code == SQLITE_LOCKED);
                sqlite3_backup_finish(job);
            }
        }
        const std::string reason = sqlite3_errmsg(copy);
        sqlite3_close(copy);
        if (code != SQLITE_DONE) {
            std::filesystem::remove(temporary, ignored);
            return fail(ErrorCode::io, "{}: cannot copy the store: {}", to.string(), reason);
        }
        std::error_code renamed;
        std::filesystem::rename(temporary, to, renamed);
        if (renamed) return fail(ErrorCode::io, "{}: {}", to.string(), renamed.message());
        return {};
    }

  protected:
    Status begin() override { return script("BEGIN IMMEDIATE"); }
    [[nodiscard]] bool should_retry() const override { return sqlite3_errcode(handle_) == SQLITE_BUSY; }

  private:
    [[nodiscard]] tl::unexpected<base::Error> error(std::string_view what) const {
        const int code = sqlite3_errcode(handle_);
        const bool foreign = code == SQLITE_NOTADB || code == SQLITE_CORRUPT;
        return fail(foreign ? ErrorCode::format : ErrorCode::io, "{}: {}{}", path_, sqlite3_errmsg(handle_),
                    foreign ? "; not a store, or damaged: restore it from a backup"
                            : fmt::format(" ({})", what.substr(0, 60)));
    }

    Result<sqlite3_stmt*> prepared(const std::string& sql) {
        if (const auto known = statements_.find(sql); known != statements_.end()) return known->second.get();
        sqlite3_stmt* statement = nullptr;
        if (sqlite3_prepare_v3(handle_, sql.c_str(), static_cast<int>(sql.size()), SQLITE_PREPARE_PERSISTENT,
                               &statement, nullptr) != SQLITE_OK) {
            return error(sql);
        }
        statements_.emplace(sql, Statement(statement));
        return statement;
    }

    static Row row_of(sqlite3_stmt* statement) {
        std::vector<Value> values;
        const int columns = sqlite3_column_count(statement);
        for (int i = 0; i < columns; ++i) {
            switch (sqlite3_column_type(statement, i)) {
                case SQLITE_NULL:
                    values.emplace_back();
                    break;
                case SQLITE_INTEGER:
                    values.emplace_back(std::int64_t{sqlite3_column_int64(statement, i)});
                    break;
                default:
                    values.emplace_back(
                        std::string(reinterpret_cast<const char*>(sqlite3_column_text(statement, i)),
                                    static_cast<std::size_t>(sqlite3_column_bytes(statement, i))));
            }
        }
        return Row(std::move(values));
    }

    std::string path_;
    sqlite3* handle_ = nullptr;
    std::map<std::string, Statement, std::less<>> statements_;
};

}  // namespace

Result<std::unique_ptr<Database>> open_sqlite(const std::string& path) {
    auto database = std::make_unique<SqliteDatabase>(path);
    RETORT_CHECK(database->open());
    return database;
}

}  // namespace retort::store
