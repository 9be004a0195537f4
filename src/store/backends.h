// The two kinds of database. Private to this part.
#pragma once

#include <memory>
#include <string>

#include "store/database.h"

namespace retort::store {

Result<std::unique_ptr<Database>> open_sqlite(const std::string& path);
Result<std::unique_ptr<Database>> open_postgres(const std::string& url);
// Brings the schema up to date, one version after another, each in a transaction.
Status migrate(Database& database);

}  // namespace retort::store
