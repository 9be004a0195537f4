// What entries of the guard's trail say (docs/formats/guard_trail.md), for all who act on them. The store
// takes any text as a body; here what cannot be read is an error that names the entry and what is wrong.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "formats/json.h"
#include "guard/guard.h"
#include "store/marks.h"

namespace retort::guard {

// The body, an object.
Result<formats::Json> entry_body(const store::TrailEntry& entry);

struct WrittenVerdict {
    Level level = Level::review;        // never none
    std::vector<std::string> accounts;  // ids, or hashes of accounts that the store does not know
};
Result<WrittenVerdict> written_verdict(const store::TrailEntry& entry);

// Of an allowance, of its end, and of an appeal: whose.
Result<std::string> written_account(const store::TrailEntry& entry);

// All of an entry that somebody acts on: of a verdict, an allowance, its end or an appeal what the functions
// above read, of any other kind the body alone. Returns the body.
Result<formats::Json> readable_body(const store::TrailEntry& entry);

}  // namespace retort::guard
