#include "curate/mix.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "base/hash.h"
#include "base/strings.h"

namespace retort::curate {

namespace {

constexpr std::string_view opening = "<think>";
constexpr std::string_view closing = "</think>";

std::vector<std::size_t> places_by_hash(std::span<const data::Record> records, bool reasoning) {
    std::vector<std::pair<std::string, std::size_t>> drawn;
    for (std::size_t i = 0; i < records.size(); ++i) {
        if (has_reasoning(records[i]) == reasoning)
            drawn.emplace_back(base::sha256_hex("mix\n" + records[i].id + records[i].response_sha256), i);
    }
    std::sort(drawn.begin(), drawn.end());
    std::vector<std::size_t> places;
    for (const auto& [hash, place] : drawn) places.push_back(place);
    return places;
}

}  // namespace

bool has_reasoning(const data::Record& record) {
    if (!base::trimmed(record.reasoning).empty()) return true;
    const std::string_view content = record.content;
    const std::size_t open = content.find(opening);
    if (open == std::string_view::npos) return false;
    const std::size_t begin = open + opening.size();
    const std::size_t end = content.find(closing, begin);
    return end != std::string_view::npos && !base::trimmed(content.substr(begin, end - begin)).empty();
}

MixShare mix_share(std::int64_t reasoning, std::int64_t plain, double mix) {
    const auto fitting = [](double wanted, std::int64_t there) {
        return wanted >= static_cast<double>(there) ? there : std::max<std::int64_t>(1, std::llround(wanted));
    };
    const auto wanted_plain = static_cast<double>(reasoning) / mix;
    if (wanted_plain <= static_cast<double>(plain)) return {reasoning, fitting(wanted_plain, plain)};
    return {fitting(static_cast<double>(plain) * mix, reasoning), plain};
}

Result<std::vector<std::optional<Drop>>> drops_by_mix(std::span<const data::Record> records, double mix) {
    const std::vector<std::size_t> reasoning = places_by_hash(records, true);
    const std::vector<std::size_t> plain = places_by_hash(records, false);
    if (reasoning.empty() || plain.empty()) {
        return fail(ErrorCode::refused,
                    "a mix of {} answers with reasoning to a plain one: {} the {} left for training {} "
                    "reasoning; name records that {} beside them, or ask for no mix",
                    mix, reasoning.empty() ? "none of" : "all of", records.size(),
                    reasoning.empty() ? "has" : "have", reasoning.empty() ? "have it" : "have none");
    }
    const MixShare share =
        mix_share(static_cast<std::int64_t>(reasoning.size()), static_cast<std::int64_t>(plain.size()), mix);
    std::vector<std::optional<Drop>> drops(records.size());
    const auto drop_rest = [&](const std::vector<std::size_t>& places, std::int64_t kept,
                               std::string_view kind) {
        for (auto k = static_cast<std::size_t>(kept); k < places.size(); ++k) {
            drops[places[k]] =
                Drop{"mix", fmt::format("{} of {} {} answers fit {} to 1", kept, places.size(), kind, mix)};
        }
    };
    drop_rest(reasoning, share.reasoning, "reasoned");
    drop_rest(plain, share.plain, "plain");
    return drops;
}

}  // namespace retort::curate
