// A relational database behind one narrow door: SQLite in a file, or PostgreSQL for several servers. SQL is
// the common subset of both, parameters are $1, $2 …. Knows no table.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"

namespace retort::store {

// NULL, INTEGER (64 bits) or TEXT; nothing else is stored.
using Value = std::variant<std::monostate, std::int64_t, std::string>;

class Row {
  public:
    explicit Row(std::vector<Value> values) : values_(std::move(values)) {}
    // NULL reads as 0 and "".
    [[nodiscard]] std::int64_t integer(std::size_t column) const;
    [[nodiscard]] std::string text(std::size_t column) const;
    [[nodiscard]] bool is_null(std::size_t column) const;

  private:
    std::vector<Value> values_;
};

// Used by one thread at a time. A lost connection is opened again by the next statement outside a
// transaction.
class Database {
  public:
    virtual ~Database() = default;
    virtual Result<std::vector<Row>> query(const std::string& sql, std::span<const Value> parameters) = 0;
    // Several statements without parameters.
    virtual Status script(const std::string& sql) = 0;
    // Runs `work` between BEGIN and COMMIT; an error rolls back. Writers of SQLite queue for the file; those
    // of PostgreSQL meet at row locks. A transaction that the database gave up for another (serialisation,
    // deadlock) is tried again, so `work` must set what it returns, not add to it.
    Status transaction(const std::function<Status()>& work);
    // " FOR UPDATE" where rows must be locked to be changed after reading; "" where the transaction has all.
    [[nodiscard]] virtual std::string_view lock_rows() const = 0;
    // A whole copy as of now, while others write; SQLite only (PostgreSQL has pg_dump).
    virtual Status backup(const std::filesystem::path& to) = 0;
    [[nodiscard]] virtual bool is_shared() const = 0;  // several servers may use it

    Result<std::vector<Row>> query(const std::string& sql, std::initializer_list<Value> parameters) {
        return query(sql, std::span<const Value>(parameters.begin(), parameters.size()));
    }
    Status execute(const std::string& sql, std::initializer_list<Value> parameters);

  protected:
    virtual Status begin() = 0;
    // True when the last failure means that the same transaction may succeed if tried again.
    [[nodiscard]] virtual bool should_retry() const = 0;
};

// "postgres://…" or "postgresql://…" is PostgreSQL, anything else the path of a SQLite file, made if absent.
// Brings the schema up to this program's version.
Result<std::unique_ptr<Database>> open_database(const std::string& location);
bool is_postgres(std::string_view location);
// The location without a password, for messages.
std::string shown_location(std::string_view location);

}  // namespace retort::store
