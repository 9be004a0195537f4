// The licence gate: nothing is asked of a teacher whose terms do not allow training on its answers. Terms are
// a file the user writes (docs/formats/terms.md); a table of published terms ships with the program as a
// help, never as a permission. Knows no network.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace retort::collect {

struct Terms {
    std::string id;            // the file's own, else made from licence and date
    std::string permitted_by;  // who says so
    std::string licence;       // SPDX expression, as "Apache-2.0"; or empty
    std::string statement;     // a permission in words; or empty. One of the two must be there
    bool allows_training_on_outputs = false;
    std::string scope;                // what the permission covers, in words
    std::string date;                 // YYYY-MM-DD
    std::vector<std::string> models;  // names with * as a wildcard, in any case; empty: any model
    std::string source;               // where it can be read
    std::string sha256;               // of the file
    std::string text;                 // the file, to be kept with the data
    std::string extension;            // ".toml" or ".json"
};

Result<Terms> parse_terms(std::string_view text, std::string_view name);
Result<Terms> read_terms(const std::filesystem::path& path);

// An entry of the shipped table. `training` says what the published terms say: forbidden, allowed, or allowed
// under a condition that `note` names.
struct KnownTerms {
    std::string name;
    std::vector<std::string> hosts;   // of an API: exact, or a suffix that begins with '.'
    std::vector<std::string> models;  // of open weights: names with *, compared without regard to case
    std::string training;             // "forbidden", "allowed", "conditional"
    std::string licence;
    std::string note;
    std::string source;
    std::string date;     // of the text that the entry was read from
    std::string duty;     // what whoever passes on a model so trained must do; empty: nothing
    std::string checked;  // when the entry was held against its source, and against what of it; empty: never
};
// "as of 2024-04-18; checked 2026-11-29: its text", for a reader who must judge how far to rely on it.
std::string standing_of(const KnownTerms& known);
std::span<const KnownTerms> known_terms();
Result<std::vector<KnownTerms>> parse_known_terms(std::string_view json);
const KnownTerms* known_host(std::string_view host);
const KnownTerms* known_model(std::string_view model);

bool matches_wildcard(std::string_view pattern, std::string_view text);

// Passes only for terms that allow it and cover the model, and that the published terms of the host do not
// contradict (a licence does not override a provider's terms; a statement from the provider does). The
// refusal says exactly what to write.
Status check_terms(const std::optional<Terms>& terms, std::string_view host, std::string_view model);

}  // namespace retort::collect
