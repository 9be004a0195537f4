#include <libpq-fe.h>

#include <charconv>

#include "store/backends.h"

namespace retort::store {

namespace {

constexpr int type_int8 = 20;
constexpr int type_int4 = 23;
constexpr int type_int2 = 21;
constexpr int type_numeric = 1700;  // what SUM of BIGINT gives

struct ClearResult {
    void operator()(PGresult* result) const { PQclear(result); }
};
using Answer = std::unique_ptr<PGresult, ClearResult>;

class PostgresDatabase : public Database {
  public:
    explicit PostgresDatabase(std::string url) : url_(std::move(url)) {}
    ~PostgresDatabase() override { PQfinish(connection_); }
    PostgresDatabase(const PostgresDatabase&) = delete;
    PostgresDatabase& operator=(const PostgresDatabase&) = delete;

    Status open() {
        PQfinish(connection_);
        const char* const names[] = {"dbname", "application_name", "connect_timeout", nullptr};
        const char* const values[] = {url_.c_str(), "retort", "10", nullptr};
        connection_ = PQconnectdbParams(names, values, 1);
        if (PQstatus(connection_) != CONNECTION_OK) {
            return fail(ErrorCode::network, "{}: cannot connect: {}", shown_location(url_), reason());
        }
        PQsetNoticeProcessor(
            connection_, [](void*, const char*) {}, nullptr);
        return {};
    }

    Result<std::vector<Row>> query(const std::string& sql, std::span<const Value> parameters) override {
        std::vector<std::string> numbers(parameters.size());
        std::vector<const char*> values;
        for (std::size_t i = 0; i < parameters.size(); ++i) {
            if (const auto* number = std::get_if<std::int64_t>(&parameters[i])) {
                numbers[i] = std::to_string(*number);
                values.push_back(numbers[i].c_str());
            } else if (const auto* text = std::get_if<std::string>(&parameters[i])) {
                values.push_back(text->c_str());
            } else {
                values.push_back(nullptr);
            }
        }
        RETORT_CHECK(reconnect());
        const Answer answer(PQexecParams(connection_, sql.c_str(), static_cast<int>(values.size()), nullptr,
                                         values.data(), nullptr, nullptr, 0));
        RETORT_CHECK(check(answer.get(), sql));
        std::vector<Row> rows;
        const int count = PQntuples(answer.get());
        const int columns = PQnfields(answer.get());
        for (int row = 0; row < count; ++row) {
            std::vector<Value> cells;
            for (int column = 0; column < columns; ++column) cells.push_back(cell(answer.get(), row, column));
            rows.emplace_back(std::move(cells));
        }
        return rows;
    }

    Status script(const std::string& sql) override {
        RETORT_CHECK(reconnect());
        const Answer answer(PQexec(connection_, sql.c_str()));
        return check(answer.get(), sql);
    }

    [[nodiscard]] std::string_view lock_rows() const override { return " FOR UPDATE"; }
    [[nodiscard]] bool is_shared() const override { return true; }
    Status backup(const std::filesystem::path&) override {
        return fail(ErrorCode::unsupported, "{}: a PostgreSQL store is backed up by pg_dump",
                    shown_location(url_));
    }

  protected:
    Status begin() override {
        failed_state_.clear();
        return script("BEGIN");
    }
    [[nodiscard]] bool should_retry() const override {
        return failed_state_ == "40001" || failed_state_ == "40P01";
    }

  private:
    [[nodiscard]] std::string reason() const {
        std::string text = PQerrorMessage(connection_);
        while (!text.empty() && text.back() == '\n') text.pop_back();
        return text;
    }

    // Within a transaction a lost connection is an error: what came before it is gone.
    Status reconnect() {
        if (PQstatus(connection_) == CONNECTION_OK) return {};
        return open();
    }

    Status check(const PGresult* answer, const std::string& sql) {
        const ExecStatusType status = PQresultStatus(answer);
        if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK) {
            // COMMIT of a transaction that had failed says ROLLBACK, and is no error to libpq.
            if (sql == "COMMIT" && std::string_view(PQcmdStatus(const_cast<PGresult*>(answer))) != "COMMIT") {
                return fail(ErrorCode::io, "{}: the transaction was rolled back", shown_location(url_));
            }
            return {};
        }
        if (const char* state = PQresultErrorField(answer, PG_DIAG_SQLSTATE)) failed_state_ = state;
        return fail(ErrorCode::io, "{}: {} ({})", shown_location(url_), reason(), sql.substr(0, 60));
    }

    static Value cell(const PGresult* answer, int row, int column) {
        if (PQgetisnull(answer, row, column) != 0) return {};
        const std::string_view text(PQgetvalue(answer, row, column),
                                    static_cast<std::size_t>(PQgetlength(answer, row, column)));
        const auto type = static_cast<int>(PQftype(answer, column));
        if (type == type_int8 || type == type_int4 || type == type_int2 || type == type_numeric) {
            std::int64_t number = 0;
            std::from_chars(text.data(), text.data() + text.size(), number);
            return number;
        }
        return std::string(text);
    }

    std::string url_;
    PGconn* connection_ = nullptr;
    std::string failed_state_;
};

}  // namespace

Result<std::unique_ptr<Database>> open_postgres(const std::string& url) {
    auto database = std::make_unique<PostgresDatabase>(url);
    RETORT_CHECK(database->open());
    return database;
}

}  // namespace retort::store
