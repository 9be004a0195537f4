// The admin API: accounts, terms, plans, keys and usage over HTTP, for keys of the role admin. Its work is
// done on a thread of its own, since it waits for the store. Knows no limits.
#pragma once

#include <memory>

#include "serve/accounts_admission.h"
#include "serve/forwarder.h"

namespace retort::serve {

// Routes, all JSON (docs/accounts.md): GET and POST /admin/{accounts,plans,terms,keys}, GET
// /admin/usage and /admin/requests,
// POST /admin/accounts/ID/{plan,suspend,resume,accept}, POST /admin/keys/ID/{rotate,revoke}.
Result<std::shared_ptr<AdminRoutes>> open_admin_routes(const AccountsOptions& options,
                                                       std::shared_ptr<AccountAdmission> admission);

}  // namespace retort::serve
