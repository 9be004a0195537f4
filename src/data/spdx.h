// SPDX licence expressions ("Apache-2.0 OR (MIT AND CC-BY-4.0)"), and what licences by their published text
// allow a model that was trained on what they cover. A table, not advice: a licence that is not in it is
// unknown. Knows no file.
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace retort::data {

struct SpdxExpression {
    enum class Kind { licence, all_of, any_of };
    struct Node {
        Kind kind = Kind::licence;
        std::string id;         // of a licence: "GPL-2.0", "LicenseRef-x", "DocumentRef-d:LicenseRef-x"
        bool or_later = false;  // "GPL-2.0+"
        std::string exception;  // "… WITH Classpath-exception-2.0"
        std::vector<std::size_t> parts;
    };
    std::vector<Node> nodes;  // the last one is the whole

    // Every licence named, in order, with + and exception as written.
    [[nodiscard]] std::vector<std::string> licences() const;
    // By operators: AND needs all, OR any.
    [[nodiscard]] bool holds(const std::function<bool(const Node&)>& licence) const;
};

// Annex D of SPDX 2.3: AND binds tighter than OR, WITH tighter than AND; operators all upper or all lower
// case.
Result<SpdxExpression> parse_spdx(std::string_view text);
// The shortest way to write it, with only the parentheses that it needs.
std::string write_spdx(const SpdxExpression& expression);

enum class Use { train, distribute, commercial };
inline constexpr std::array<std::string_view, 3> use_names = {"train", "distribute", "commercial"};
Result<Use> use_from_name(std::string_view name);

struct LicenceFacts {
    std::string_view id;
    std::string_view forbids;    // uses, by name, with spaces between them
    std::string_view requires_;  // "notice", "share-alike", … in words; empty: nothing
};
// Null: unknown. Compared without regard to case; "-only", "-or-later" and "+" of the GNU family are one.
const LicenceFacts* licence_facts(std::string_view id);
// What stands against the use, in words; empty: nothing. An alternative of OR that allows it is enough.
std::string licence_objection(const SpdxExpression& expression, Use use);
// What whoever passes the model on must do, in words; empty: nothing that is known.
std::vector<std::string> licence_duties(const SpdxExpression& expression);

}  // namespace retort::data
