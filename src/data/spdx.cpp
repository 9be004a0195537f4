#include "data/spdx.h"

#include <algorithm>
#include <cctype>

namespace retort::data {

namespace {

using Kind = SpdxExpression::Kind;
using Node = SpdxExpression::Node;

constexpr std::size_t most_text = 64 * 1024;
constexpr int most_depth = 64;

bool is_id_character(char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '-' || c == ':' || c == '+';
}

class Parser {
  public:
    explicit Parser(std::string_view text) : text_(text) { next(); }

    Result<SpdxExpression> run() {
        RETORT_TRY(const std::size_t whole, any_of(0));
        (void)whole;
        if (!token_.empty()) return unexpected("AND, OR or the end");
        return std::move(out_);
    }

  private:
    void next() {
        while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t')) ++at_;
        const std::size_t begin = at_;
        if (at_ < text_.size()) {
            ++at_;
            if (is_id_character(text_[begin])) {
                while (at_ < text_.size() && is_id_character(text_[at_])) ++at_;
            }
        }
        token_ = text_.substr(begin, at_ - begin);
    }

    [[nodiscard]] bool is_operator(std::string_view upper, std::string_view lower) const {
        return token_ == upper || token_ == lower;
    }

    [[nodiscard]] tl::unexpected<base::Error> unexpected(std::string_view wanted) const {
        return fail(ErrorCode::format, "licence \"{}\": {} where {} should stand", text_.substr(0, 200),
                    token_.empty() ? std::string("the end") : fmt::format("\"{}\"", token_), wanted);
    }

    std::size_t add(Node node) {
        out_.nodes.push_back(std::move(node));
        return out_.nodes.size() - 1;
    }

    using Inner = Result<std::size_t> (Parser::*)(int);
    Result<std::size_t> list(Kind kind, std::string_view upper, std::string_view lower, Inner inner,
                             int depth) {
        Node node;
        node.kind = kind;
        RETORT_TRY(const std::size_t first, (this->*inner)(depth));
        node.parts.push_back(first);
        while (is_operator(upper, lower)) {
            next();
            RETORT_TRY(const std::size_t part, (this->*inner)(depth));
            node.parts.push_back(part);
        }
        return node.parts.size() == 1 ? first : add(std::move(node));
    }
    Result<std::size_t> any_of(int depth) { return list(Kind::any_of, "OR", "or", &Parser::all_of, depth); }
    Result<std::size_t> all_of(int depth) { return list(Kind::all_of, "AND", "and", &Parser::single, depth); }

    [[nodiscard]] bool is_word() const {
        return !token_.empty() && is_id_character(token_.front()) && !is_operator("AND", "and") &&
               !is_operator("OR", "or") && !is_operator("WITH", "with");
    }

    Result<std::size_t> single(int depth) {
        if (token_ == "(") {
            if (depth >= most_depth) {
                return fail(ErrorCode::unsupported, "licence: parentheses in more than {} levels",
                            most_depth);
            }
            next();
            RETORT_TRY(const std::size_t inside, any_of(depth + 1));
            if (token_ != ")") return unexpected(")");
            next();
            return inside;
        }
        if (!is_word()) return unexpected("a licence");
        Node node;
        node.id = token_;
        if (node.id.ends_with('+')) {
            node.or_later = true;
            node.id.pop_back();
        }
        RETORT_CHECK(check_id(node.id, node.or_later));
        next();
        if (is_operator("WITH", "with")) {
            next();
            if (!is_word() || token_.find('+') != std::string_view::npos) return unexpected("an exception");
            node.exception = token_;
            next();
        }
        return add(std::move(node));
    }

    [[nodiscard]] Status check_id(std::string_view id, bool or_later) const {
        const auto bad = [&] {
            return fail(ErrorCode::format, "licence \"{}\": \"{}\" is no licence's name",
                        text_.substr(0, 200), id);
        };
        if (id.empty() || id.find('+') != std::string_view::npos) return bad();
        std::string_view rest = id;
        if (const std::size_t colon = rest.find(':'); colon != std::string_view::npos) {
            if (!rest.starts_with("DocumentRef-") || colon == std::string_view("DocumentRef-").size())
                return bad();
            rest.remove_prefix(colon + 1);
            if (!rest.starts_with("LicenseRef-")) return bad();
        }
        if (rest.starts_with("LicenseRef-") && (or_later || rest.size() == 11)) return bad();
        return rest.find(':') == std::string_view::npos ? Status{} : Status(bad());
    }

    std::string_view text_;
    std::size_t at_ = 0;
    std::string_view token_;
    SpdxExpression out_;
};

std::string write_licence(const Node& node) {
    std::string out = node.id + (node.or_later ? "+" : "");
    if (!node.exception.empty()) out += " WITH " + node.exception;
    return out;
}

std::string lower(std::string_view text) {
    std::string out(text);
    for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return out;
}

constexpr std::string_view notice = "keep the copyright notice and the licence's text with it";
constexpr std::string_view share = "pass it on under the same licence";
constexpr std::string_view attribution = "name the source";
constexpr std::string_view attribution_share = "name the source; pass it on under the same licence";
constexpr std::string_view restrictions = "pass its use restrictions on with it";

// What the licence's own words say of uses of the work; whether training makes a derived work is not decided
// here: a licence that forbids derived works is taken to forbid passing on what was trained on it.
constexpr auto known_licences = std::to_array<LicenceFacts>({
    {"0BSD", "", ""},
    {"AFL-3.0", "", notice},
    {"AGPL-3.0", "", share},
    {"Apache-2.0", "", notice},
    {"BSD-2-Clause", "", notice},
    {"BSD-3-Clause", "", notice},
    {"BSL-1.0", "", notice},
    {"CC-BY-2.0", "", attribution},
    {"CC-BY-3.0", "", attribution},
    {"CC-BY-4.0", "", attribution},
    {"CC-BY-NC-3.0", "commercial", attribution},
    {"CC-BY-NC-4.0", "commercial", attribution},
    {"CC-BY-NC-ND-3.0", "commercial distribute", attribution},
    {"CC-BY-NC-ND-4.0", "commercial distribute", attribution},
    {"CC-BY-NC-SA-3.0", "commercial", attribution_share},
    {"CC-BY-NC-SA-4.0", "commercial", attribution_share},
    {"CC-BY-ND-3.0", "distribute", attribution},
    {"CC-BY-ND-4.0", "distribute", attribution},
    {"CC-BY-SA-3.0", "", attribution_share},
    {"CC-BY-SA-4.0", "", attribution_share},
    {"CC0-1.0", "", ""},
    {"CDLA-Permissive-1.0", "", notice},
    {"CDLA-Permissive-2.0", "", notice},
    {"CDLA-Sharing-1.0", "", share},
    {"EPL-2.0", "", share},
    {"EUPL-1.2", "", share},
    {"GFDL-1.3", "", share},
    {"GPL-2.0", "", share},
    {"GPL-3.0", "", share},
    {"ISC", "", notice},
    {"LGPL-2.1", "", share},
    {"LGPL-3.0", "", share},
    {"LicenseRef-DeepSeek", "", restrictions},
    {"LicenseRef-Gemma", "", restrictions},
    {"LicenseRef-Llama-Community", "",
     "begin its name with \"Llama\", show \"Built with Llama\", and keep the licence and its policy of use "
     "with it"},
    {"LicenseRef-MNPL", "commercial", restrictions},
    {"LicenseRef-OpenRAIL-M", "", restrictions},
    {"LicenseRef-Public-Domain", "", ""},
    {"LicenseRef-Qwen", "", "show \"Built with Qwen\" or \"Improved using Qwen\""},
    {"LicenseRef-Qwen-Research", "commercial", "show \"Built with Qwen\" or \"Improved using Qwen\""},
    {"MIT", "", notice},
    {"MIT-0", "", ""},
    {"MPL-2.0", "", share},
    {"ODbL-1.0", "", attribution_share},
    {"ODC-By-1.0", "", attribution},
    {"PDDL-1.0", "", ""},
    {"PSF-2.0", "", notice},
    {"Unlicense", "", ""},
    {"Zlib", "", notice},
});

bool has_word(std::string_view list, std::string_view word) {
    for (std::size_t at = list.find(word); at != std::string_view::npos; at = list.find(word, at + 1)) {
        const std::size_t end = at + word.size();
        if ((at == 0 || list[at - 1] == ' ') && (end == list.size() || list[end] == ' ')) return true;
    }
    return false;
}

}  // namespace

std::vector<std::string> SpdxExpression::licences() const {
    std::vector<std::string> out;
    for (const Node& node : nodes) {
        if (node.kind == Kind::licence) out.push_back(write_licence(node));
    }
    return out;
}

bool SpdxExpression::holds(const std::function<bool(const Node&)>& licence) const {
    // Parts stand before what they are parts of.
    std::vector<bool> value(nodes.size());
    for (std::size_t i = 0; i < nodes.size(); ++i) {
        const auto part = [&](std::size_t at) { return value[at]; };
        const auto& parts = nodes[i].parts;
        value[i] = nodes[i].kind == Kind::licence  ? licence(nodes[i])
                   : nodes[i].kind == Kind::all_of ? std::all_of(parts.begin(), parts.end(), part)
                                                   : std::any_of(parts.begin(), parts.end(), part);
    }
    return !value.empty() && value.back();
}

Result<SpdxExpression> parse_spdx(std::string_view text) {
    if (text.size() > most_text) {
        return fail(ErrorCode::unsupported, "a licence expression of {} bytes; at most {}", text.size(),
                    most_text);
    }
    return Parser(text).run();
}

std::string write_spdx(const SpdxExpression& expression) {
    std::vector<std::string> texts;
    for (const Node& node : expression.nodes) {
        if (node.kind == Kind::licence) {
            texts.push_back(write_licence(node));
            continue;
        }
        std::string text;
        for (const std::size_t part : node.parts) {
            if (!text.empty()) text += node.kind == Kind::all_of ? " AND " : " OR ";
            // The same operator inside is one list; parentheses would only be in the way.
            const bool wrap = node.kind == Kind::all_of && expression.nodes[part].kind == Kind::any_of;
            text += wrap ? "(" + texts[part] + ")" : texts[part];
        }
        texts.push_back(std::move(text));
    }
    return texts.empty() ? std::string() : texts.back();
}

Result<Use> use_from_name(std::string_view name) {
    for (std::size_t i = 0; i < use_names.size(); ++i) {
        if (use_names[i] == name) return static_cast<Use>(i);
    }
    return fail(ErrorCode::invalid_argument, "use \"{}\"; there are {}", name, fmt::join(use_names, ", "));
}

const LicenceFacts* licence_facts(std::string_view id) {
    std::string wanted = lower(id);
    for (const std::string_view ending : {"-only", "-or-later"}) {
        if (wanted.ends_with(ending)) wanted.resize(wanted.size() - ending.size());
    }
    const auto found = std::find_if(known_licences.begin(), known_licences.end(),
                                    [&](const LicenceFacts& facts) { return lower(facts.id) == wanted; });
    return found == known_licences.end() ? nullptr : &*found;
}

std::string licence_objection(const SpdxExpression& expression, Use use) {
    const std::string_view name = use_names[static_cast<std::size_t>(use)];
    std::string objection;
    const bool allowed = expression.holds([&](const Node& node) {
        const LicenceFacts* facts = licence_facts(node.id);
        if (facts != nullptr && !has_word(facts->forbids, name)) return true;
        if (!objection.empty()) objection += "; ";
        objection +=
            facts == nullptr
                ? fmt::format("{} is not in the table of licences: read it and state what it allows", node.id)
                : fmt::format("{} does not allow \"{}\"", node.id, name);
        return false;
    });
    return allowed ? std::string() : objection;
}

std::vector<std::string> licence_duties(const SpdxExpression& expression) {
    std::vector<std::string> duties;
    for (const Node& node : expression.nodes) {
        if (node.kind != Kind::licence) continue;
        const LicenceFacts* facts = licence_facts(node.id);
        if (facts == nullptr || facts->requires_.empty()) continue;
        std::string duty = fmt::format("{}: {}", node.id, facts->requires_);
        if (std::find(duties.begin(), duties.end(), duty) == duties.end()) duties.push_back(std::move(duty));
    }
    return duties;
}

}  // namespace retort::data
