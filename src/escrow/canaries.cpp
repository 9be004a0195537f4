#include "escrow/canaries.h"

#include <fmt/format.h>
#include <sodium.h>

#include <array>
#include <set>

#include "formats/json.h"

namespace retort::escrow {

using formats::Json;

namespace {

constexpr std::array<std::string_view, 24> qualities{
    "amber", "brass",  "cedar",   "dusty", "early",  "frozen", "gilded", "hollow",
    "ivory", "jagged", "knotted", "lunar", "marble", "narrow", "olive",  "polar",
    "quiet", "rusty",  "silver",  "tidal", "umber",  "velvet", "woven",  "yellow"};
constexpr std::array<std::string_view, 24> things{"anchor", "barrel", "candle",  "door",   "easel", "funnel",
                                                  "gasket", "hinge",  "inkwell", "jar",    "kiln",  "lantern",
                                                  "mirror", "needle", "oar",     "piston", "quill", "ribbon",
                                                  "saddle", "teapot", "urn",     "vane",   "wheel", "zither"};
constexpr std::string_view letters = "bcdfghjkmnpqrstvwxz";

template <std::size_t Size>
std::string_view any_of(const std::array<std::string_view, Size>& words) {
    return words[randombytes_uniform(static_cast<std::uint32_t>(Size))];
}

std::string random_code() {
    std::string code;
    for (int i = 0; i < 3; ++i)
        code += letters[randombytes_uniform(static_cast<std::uint32_t>(letters.size()))];
    return fmt::format("{}-{:04}", code, randombytes_uniform(10000));
}

// Lower case letters and digits, other ASCII as single spaces.
std::string normalised(std::string_view text) {
    std::string out;
    for (const char c : text) {
        const bool upper = c >= 'A' && c <= 'Z';
        const bool kept =
            upper || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || static_cast<std::uint8_t>(c) >= 0x80;
        if (kept) {
            out += upper ? static_cast<char>(c - 'A' + 'a') : c;
        } else if (!out.empty() && out.back() != ' ') {
            out += ' ';
        }
    }
    while (!out.empty() && out.back() == ' ') out.pop_back();
    return out;
}

}  // namespace

std::string Canary::answer_with(std::string_view candidate) const {
    std::string out = answer;
    const std::size_t at = out.find("{}");
    return at == std::string::npos ? out : out.replace(at, 2, candidate);
}

std::vector<Canary> make_canaries(std::int64_t count, std::int64_t decoys) {
    std::vector<Canary> canaries;
    std::set<std::string> prompts;
    while (static_cast<std::int64_t>(canaries.size()) < count) {
        Canary canary;
        const std::string thing = fmt::format("{} {}", any_of(qualities), any_of(things));
        canary.prompt =
            fmt::format("What is the stock code of the {} on shelf {}?", thing, 1 + randombytes_uniform(900));
        if (!prompts.insert(canary.prompt).second) continue;
        canary.id = fmt::format("canary-{:03}", canaries.size() + 1);
        canary.answer = fmt::format("The stock code of the {} is {{}}.", thing);
        std::set<std::string> codes;
        while (static_cast<std::int64_t>(codes.size()) < decoys + 1) codes.insert(random_code());
        canary.candidates.assign(codes.begin(), codes.end());
        canary.planted = randombytes_uniform(static_cast<std::uint32_t>(canary.candidates.size()));
        canaries.push_back(std::move(canary));
    }
    return canaries;
}

std::string write_canaries(const std::vector<Canary>& canaries) {
    Json list = Json::array();
    for (const Canary& canary : canaries) {
        list.push_back({{"id", canary.id},
                        {"prompt", canary.prompt},
                        {"answer", canary.answer},
                        {"candidates", canary.candidates},
                        {"planted", canary.planted}});
    }
    return formats::write_json(Json{{"format", "retort-canaries-1"}, {"canaries", list}}, 1) + "\n";
}

Result<std::vector<Canary>> parse_canaries(std::string_view text, std::string_view name) {
    RETORT_TRY(const Json json, formats::parse_json(text, name));
    const Json* list = formats::json_find(json, "canaries");
    if (list == nullptr || !list->is_array())
        return fail(ErrorCode::format, "{}: no array \"canaries\"", name);
    std::vector<Canary> canaries;
    for (const Json& item : *list) {
        Canary canary;
        RETORT_TRY(canary.id, formats::json_string(item, "id"));
        RETORT_TRY(canary.prompt, formats::json_string(item, "prompt"));
        RETORT_TRY(canary.answer, formats::json_string(item, "answer"));
        RETORT_TRY(canary.planted, formats::json_integer(item, "planted"));
        const Json* candidates = formats::json_find(item, "candidates");
        std::set<std::string> known;
        if (candidates != nullptr && candidates->is_array()) {
            for (const Json& candidate : *candidates) {
                if (!candidate.is_string() || !known.insert(candidate.get<std::string>()).second) {
                    return fail(ErrorCode::format, "{}: {}: candidates are different strings", name,
                                canary.id);
                }
                canary.candidates.push_back(candidate.get<std::string>());
            }
        }
        if (canary.candidates.size() < 2 || canary.planted < 0 ||
            canary.planted >= static_cast<std::int64_t>(canary.candidates.size())) {
            return fail(ErrorCode::format, "{}: {}: {} candidates, of which number {} is planted", name,
                        canary.id, canary.candidates.size(), canary.planted);
        }
        if (canary.answer.find("{}") == std::string::npos || normalised(canary.prompt).empty()) {
            return fail(ErrorCode::format,
                        "{}: {}: the answer has no {{}} for the string, or the prompt no word", name,
                        canary.id);
        }
        canaries.push_back(std::move(canary));
    }
    return canaries;
}

const Canary* find_canary(const std::vector<Canary>& canaries, std::string_view prompt) {
    if (canaries.empty()) return nullptr;
    const std::string wanted = normalised(prompt);
    for (const Canary& canary : canaries) {
        if (normalised(canary.prompt) == wanted) return &canary;
    }
    return nullptr;
}

}  // namespace retort::escrow
