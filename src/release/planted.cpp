// That what is planted in answers can be found in them: the mark by its own test in answers that are sampled,
// the twins by their coins and by two answers to one prompt.
#include <algorithm>
#include <array>
#include <cmath>

#include "base/hash.h"
#include "data/prompts.h"
#include "release/check.h"
#include "stats/proportion.h"
#include "watermark/detect.h"

namespace retort::release {

using formats::Json;

namespace {

// A channel that no account has: what is marked here is nobody's answer.
constexpr const char* channel = "release check";
constexpr std::int64_t coins_drawn = 100000;

Result<std::vector<Asked>> prompts_of(const PlantedItem& wanted) {
    std::vector<Asked> asked;
    const auto add = [&](std::string text) {
        data::Message message;
        message.role = "user";
        message.content = std::move(text);
        asked.push_back({.messages = {message}, .text = {}});
    };
    if (!wanted.prompts.empty()) {
        RETORT_TRY(const std::vector<data::Prompt> prompts, data::read_prompts(wanted.prompts));
        for (const data::Prompt& prompt : prompts) asked.push_back({.messages = prompt.messages, .text = {}});
        if (asked.empty())
            return fail(ErrorCode::invalid_argument, "{}: no prompt in it", wanted.prompts.string());
    } else {
        constexpr std::array<const char*, 8> own = {"Describe a walk through a forest in autumn.",
                                                    "How is bread baked? Tell me step by step.",
                                                    "Write a short story of a lost key.",
                                                    "What should one see in a big city in one day?",
                                                    "Explain to a child why it rains.",
                                                    "Write a letter to a friend who has moved away.",
                                                    "What makes a good teacher?",
                                                    "Plan a garden for a small yard."};
        for (const char* prompt : own) add(prompt);
    }
    // So many answers as are wanted, over all prompts in turn.
    std::vector<Asked> out;
    for (std::int64_t i = 0; i < wanted.answers; ++i)
        out.push_back(asked[static_cast<std::size_t>(i) % asked.size()]);
    return out;
}

double log_p_of(const watermark::Scheme& scheme, const watermark::Subkey& key,
                const std::vector<MarkedAnswer>& answers, std::int64_t& pairs) {
    watermark::PairBook book(scheme.window);
    // What a prompt shows is no choice of the model.
    for (const MarkedAnswer& one : answers) book.exclude(one.prompt);
    for (const MarkedAnswer& one : answers) book.add(one.answer);
    const watermark::Detection found = watermark::detect(scheme, key, book.pairs());
    pairs = found.pairs;
    return found.log_p;
}

}  // namespace

Result<Item> check_planted(const ModelUnderTest& model, const PlantedItem& wanted, std::uint64_t seed,
                           const CheckOptions& options) {
    Item item;
    item.id = "planted";
    item.what = "watermark and twins are armed: the mark is found in answers that are sampled with it";
    item.bound = fmt::format("p of the mark at most {:g}", wanted.largest_p);
    item.measured.value = 1;
    std::vector<std::string> lacking;
    std::vector<std::string> shown;
    item.evidence = {{"plant", wanted.plant.string()}};
    const auto plant = escrow::read_plant(wanted.plant);
    if (!plant) lacking.push_back(plant.error().message);
    const bool has_mark = plant && plant->settings.scheme && plant->master_key;
    if (plant && wanted.watermark && !has_mark) lacking.emplace_back("no watermark is set");
    if (plant && wanted.twins && !(plant->settings.twin_share > 0)) lacking.emplace_back("no twins are set");
    if (!lacking.empty() || !model.answer_marked) {
        if (lacking.empty()) lacking.emplace_back("the model cannot be asked for marked answers");
        item.shown = fmt::format("{}", fmt::join(lacking, "; "));
        item.evidence["lacking"] = lacking;
        return item;
    }
    item.evidence["commitment_sha256"] = base::sha256_hex(escrow::commitment_text(*plant));
    item.evidence["canaries"] = plant->canaries.size();
    RETORT_TRY(const std::vector<Asked> asked, prompts_of(wanted));
    const std::int64_t total = wanted.answers * (wanted.twins ? 2 : 1);
    std::int64_t before = 0;
    Asking how;
    how.temperature = 1;
    how.max_tokens = wanted.answer_tokens;
    how.seed = seed;
    if (options.on_progress) {
        how.on_progress = [&](std::int64_t done) { options.on_progress("planted", before + done, total); };
    }
    RETORT_TRY(const std::vector<MarkedAnswer> first, model.answer_marked(asked, how, *plant, channel));
    before += wanted.answers;
    if (wanted.watermark) {
        const watermark::Scheme& scheme = *plant->settings.scheme;
        std::int64_t pairs = 0;
        const double log_p = log_p_of(scheme, plant->master_key->subkey(scheme.kind, channel), first, pairs);
        // A key that marked nothing: what the same text gives by chance.
        std::int64_t same = 0;
        const double other =
            log_p_of(scheme, watermark::MasterKey::random().subkey(scheme.kind, channel), first, same);
        item.measured.value = std::exp(log_p);
        item.evidence["watermark"] = {{"scheme", watermark::kind_name(scheme.kind)},
                                      {"answers", first.size()},
                                      {"scored_pairs", pairs},
                                      {"log10_p", log_p / std::log(10.0)},
                                      {"log10_p_under_another_key", other / std::log(10.0)}};
        shown.push_back(fmt::format("mark found with p = 1e{:.0f} in {} answers, {} pairs",
                                    std::floor(log_p / std::log(10.0)), first.size(), pairs));
        if (!(log_p <= std::log(wanted.largest_p)))
            lacking.push_back(fmt::format("the mark is not found: p = {:.2g}", std::exp(log_p)));
    }
    if (wanted.twins) {
        how.seed = seed + static_cast<std::uint64_t>(asked.size());
        RETORT_TRY(const std::vector<MarkedAnswer> second, model.answer_marked(asked, how, *plant, channel));
        std::int64_t differ = 0;
        for (std::size_t i = 0; i < first.size(); ++i) differ += first[i].answer != second[i].answer ? 1 : 0;
        std::int64_t selected = 0;
        for (std::int64_t i = 0; i < coins_drawn; ++i) {
            const double share = plant->settings.twin_share;
            selected += plant->coins.at(static_cast<std::uint64_t>(i)).selection < share ? 1 : 0;
        }
        const stats::Estimate drawn = stats::clopper_pearson(selected, coins_drawn);
        item.evidence["twins"] = {{"share", plant->settings.twin_share},
                                  {"coins", coins_drawn},
                                  {"selected", selected},
                                  {"pairs", first.size()},
                                  {"pairs_that_differ", differ}};
        shown.push_back(fmt::format("{} of {} coins select a twin, {} of {} pairs of answers differ",
                                    selected, coins_drawn, differ, first.size()));
        if (selected == 0) lacking.emplace_back("no coin selects a twin");
        if (differ == 0)
            lacking.emplace_back("two answers to one prompt are always the same: no twin can be drawn");
        // Five times the half width of 95 %: a stream that is not what the settings say.
        const double wide = 5 * std::max(drawn.high - drawn.value, drawn.value - drawn.low);
        if (std::abs(drawn.value - plant->settings.twin_share) > wide)
            lacking.push_back(fmt::format("coins select {:.4f} of requests, the settings say {:.4f}",
                                          drawn.value, plant->settings.twin_share));
    }
    item.passed = lacking.empty();
    item.evidence["lacking"] = lacking;
    shown.insert(shown.end(), lacking.begin(), lacking.end());
    item.shown = fmt::format("{}", fmt::join(shown, "; "));
    return item;
}

}  // namespace retort::release
