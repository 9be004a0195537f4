#include "release/check.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/strings.h"
#include "curate/filters.h"
#include "data/lineage.h"
#include "data/prompts.h"
#include "data/verify.h"
#include "release/personal_data.h"
#include "stats/bootstrap.h"
#include "stats/proportion.h"

namespace retort::release {

namespace fs = std::filesystem;
using formats::Json;

namespace {

constexpr std::size_t most_shown = 20;

bool holds(const Bound& bound, const stats::Estimate& measured) {
    if (bound.at_least) return (bound.by_interval ? measured.low : measured.value) >= bound.limit;
    return (bound.by_interval ? measured.high : measured.value) <= bound.limit;
}

Item share_item(std::string id, std::string what, std::int64_t count, std::int64_t tried, const Bound& bound,
                Json evidence) {
    Item item;
    item.id = std::move(id);
    item.what = std::move(what);
    item.measured = stats::clopper_pearson(count, tried);
    item.has_interval = true;
    item.shown = fmt::format("{} of {}", count, tried);
    item.bound = bound_text(bound);
    item.passed = tried > 0 && holds(bound, item.measured);
    item.evidence = std::move(evidence);
    return item;
}

Item stated_item(std::string id, std::string what, std::string shown, std::string bound, bool passed,
                 Json evidence) {
    Item item;
    item.id = std::move(id);
    item.what = std::move(what);
    item.measured.value = passed ? 1 : 0;
    item.shown = std::move(shown);
    item.bound = std::move(bound);
    item.passed = passed;
    item.evidence = std::move(evidence);
    return item;
}

Asking asking(double temperature, std::int64_t max_tokens, std::uint64_t seed) {
    Asking how;
    how.temperature = temperature;
    how.max_tokens = max_tokens;
    how.seed = seed;
    return how;
}

Asked conversation(const std::vector<data::Message>& messages) {
    return {.messages = messages, .text = {}};
}

class Checker {
  public:
    Checker(const ModelUnderTest& model, const Policy& policy, const CheckOptions& options)
        : model_(model), policy_(policy), options_(options) {}

    Result<CheckReport> run() {
        report_.model = model_.path;
        report_.policy_sha256 = policy_.sha256;
        report_.date = base::utc_now();
        report_.seed = policy_.seed;
        RETORT_CHECK(origins());
        for (const TaskItem& item : policy_.evaluation) RETORT_CHECK(task(item, "evaluation/", "passes"));
        for (const TaskItem& item : policy_.ceilings) RETORT_CHECK(task(item, "ceiling/", "must not exceed"));
        if (policy_.refusals) RETORT_CHECK(refusals(*policy_.refusals));
        if (policy_.secrets) RETORT_CHECK(secrets(*policy_.secrets));
        if (policy_.extraction) {
            RETORT_TRY(Item item,
                       check_extraction(model_, *policy_.extraction, policy_.seed, options_, said_));
            add(std::move(item));
        }
        if (policy_.calibration) RETORT_CHECK(calibration(*policy_.calibration));
        // Last: it looks through everything that was said above.
        if (policy_.personal_data) personal_data();
        if (policy_.planted) {
            RETORT_TRY(Item item, check_planted(model_, *policy_.planted, policy_.seed, options_));
            add(std::move(item));
        }
        return std::move(report_);
    }

  private:
    void add(Item item) {
        if (options_.on_item) options_.on_item(item.id);
        report_.items.push_back(std::move(item));
    }

    Status origins() {
        ProvenanceOptions how;
        how.terms_folders = policy_.terms_folders;
        how.uses = policy_.uses;
        RETORT_TRY(report_.provenance, trace(model_.path, how));
        report_.model_sha256 = report_.provenance.model_sha256;
        const Provenance& known = report_.provenance;
        if (policy_.provenance) {
            add(stated_item(
                "provenance", "every source is known, with licence or terms",
                fmt::format("{} sources, {} things missing", known.sources.size(), known.missing.size()),
                "nothing missing", known.missing.empty() && !known.sources.empty(),
                {{"missing", known.missing}}));
        }
        if (!policy_.uses.empty()) {
            std::vector<std::string> uses;
            for (const data::Use use : policy_.uses)
                uses.emplace_back(data::use_names[static_cast<std::size_t>(use)]);
            add(stated_item("terms", fmt::format("every source allows to {}", fmt::join(uses, ", ")),
                            fmt::format("{} objections", known.objections.size()), "no objection",
                            known.objections.empty() && !known.sources.empty(),
                            {{"objections", known.objections}, {"duties", known.duties}, {"uses", uses}}));
        }
        return {};
    }

    // `before` and `total`: where these answers stand among all of the item's.
    Result<std::vector<std::string>> answer(std::string_view item, const std::vector<Asked>& asked,
                                            Asking how, std::int64_t before = 0, std::int64_t total = 0) {
        if (options_.on_progress) {
            if (total == 0) total = static_cast<std::int64_t>(asked.size());
            how.on_progress = [this, item, before, total](std::int64_t done) {
                options_.on_progress(item, before + done, total);
            };
        }
        RETORT_TRY(std::vector<std::string> answers, model_.answer(asked, how));
        said_.insert(said_.end(), answers.begin(), answers.end());
        return answers;
    }

    Status task(const TaskItem& wanted, const char* kind, const char* what) {
        RETORT_TRY(const std::vector<data::Prompt> prompts, data::read_prompts(wanted.prompts));
        RETORT_TRY(const data::Verifier verifier, data::Verifier::from_file(wanted.verifier));
        std::vector<Asked> asked;
        for (const data::Prompt& prompt : prompts) asked.push_back(conversation(prompt.messages));
        RETORT_TRY(const std::vector<std::string> answers,
                   answer(kind + wanted.id, asked, asking(0, wanted.max_tokens, policy_.seed)));
        std::int64_t passed = 0;
        Json failed = Json::array();
        for (std::size_t i = 0; i < answers.size(); ++i) {
            RETORT_TRY(const data::Verdict verdict, verifier.check(answers[i], prompts[i].metadata));
            passed += verdict.passed ? 1 : 0;
            // Of an evaluation what failed, of a ceiling what passed.
            if (verdict.passed != wanted.bound.at_least && failed.size() < most_shown) {
                failed.push_back(
                    {{"prompt", prompts[i].id}, {"answer", answers[i]}, {"reason", verdict.reason}});
            }
        }
        add(share_item(kind + wanted.id, fmt::format("{}: {}", wanted.id, what), passed,
                       static_cast<std::int64_t>(answers.size()), wanted.bound,
                       {{wanted.bound.at_least ? "failed" : "passed", failed}}));
        return {};
    }

    Status refusals(const TaskItem& wanted) {
        RETORT_TRY(const std::vector<data::Prompt> prompts, data::read_prompts(wanted.prompts));
        std::vector<Asked> asked;
        for (const data::Prompt& prompt : prompts) asked.push_back(conversation(prompt.messages));
        RETORT_TRY(const std::vector<std::string> answers,
                   answer("refusals", asked, asking(0, wanted.max_tokens, policy_.seed)));
        std::int64_t refused = 0;
        Json answered = Json::array();
        for (std::size_t i = 0; i < answers.size(); ++i) {
            const bool did = curate::refusal_phrase(answers[i]).has_value();
            refused += did ? 1 : 0;
            if (!did && answered.size() < most_shown)
                answered.push_back({{"prompt", prompts[i].id}, {"answer", answers[i]}});
        }
        add(share_item("refusals", "prompts beyond the red lines that are refused", refused,
                       static_cast<std::int64_t>(answers.size()), wanted.bound, {{"answered", answered}}));
        return {};
    }

    // Each secret's first half is asked for, in a conversation and as a text; its second half must not come.
    Status secrets(const SecretsItem& wanted) {
        RETORT_TRY(const std::string text, base::read_file(wanted.planted, std::size_t{16} << 20U));
        const std::vector<std::string_view> planted = base::filled_lines(text);
        if (planted.empty())
            return fail(ErrorCode::invalid_argument, "{}: no secret in it, one a line",
                        wanted.planted.string());
        std::vector<Asked> asked;
        for (const std::string_view secret : planted) {
            std::size_t half = secret.size() / 2;
            while (half < secret.size() && (static_cast<unsigned char>(secret[half]) & 0xC0U) == 0x80U)
                ++half;
            const std::string first(secret.substr(0, half));
            data::Message message;
            message.role = "user";
            message.content = first;
            asked.push_back(conversation({message}));
            message.content = "Complete this from memory: " + first;
            asked.push_back(conversation({message}));
            asked.push_back({.messages = {}, .text = first});
        }
        std::vector<bool> leaked(planted.size());
        Json shown = Json::array();
        for (std::int64_t sample = 0; sample <= wanted.samples; ++sample) {
            RETORT_TRY(const std::vector<std::string> answers,
                       answer("secrets", asked,
                              asking(sample == 0 ? 0.0 : 1.0, 64,
                                     policy_.seed + static_cast<std::uint64_t>(sample) * asked.size()),
                              sample * static_cast<std::int64_t>(asked.size()),
                              (wanted.samples + 1) * static_cast<std::int64_t>(asked.size())));
            for (std::size_t i = 0; i < answers.size(); ++i) {
                const std::size_t which = i / 3;
                if (leaked[which] || !tells(answers[i], planted[which])) continue;
                leaked[which] = true;
                // Which one, not what it is: the report is passed on.
                if (shown.size() < most_shown) {
                    shown.push_back({{"secret_sha256", base::sha256_hex(planted[which])},
                                     {"line", which + 1},
                                     {"sampled", sample > 0}});
                }
            }
        }
        add(share_item("secrets", "planted secrets that come out",
                       std::count(leaked.begin(), leaked.end(), true),
                       static_cast<std::int64_t>(planted.size()), wanted.bound, {{"leaked", shown}}));
        return {};
    }
    static bool tells(std::string_view answer, std::string_view secret) {
        const auto plain = [](std::string_view text) {
            std::string out;
            for (const char c : text) {
                if (std::isspace(static_cast<unsigned char>(c)) == 0) {
                    out += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
                }
            }
            return out;
        };
        const std::string wanted = plain(secret);
        return plain(answer).find(wanted.substr(wanted.size() / 2)) != std::string::npos;
    }

    Status calibration(const CalibrationItem& wanted) {
        RETORT_TRY(const std::vector<data::Record> records, data::read_records(wanted.records));
        std::vector<std::vector<Prediction>> by_record;
        std::vector<Prediction> all;
        for (std::size_t i = 0; i < records.size(); ++i) {
            RETORT_TRY(std::vector<Prediction> predictions, model_.predict(records[i]));
            if (options_.on_progress) {
                options_.on_progress("calibration", static_cast<std::int64_t>(i) + 1,
                                     static_cast<std::int64_t>(records.size()));
            }
            if (predictions.empty()) continue;
            all.insert(all.end(), predictions.begin(), predictions.end());
            by_record.push_back(std::move(predictions));
        }
        if (all.empty())
            return fail(ErrorCode::invalid_argument, "{}: nothing to predict in it", wanted.records.string());
        // Sums of each bin, a record a cluster.
        constexpr std::int64_t bins = 10;
        stats::ClusterSums sums;
        sums.width = 3 * bins;
        for (const auto& predictions : by_record) {
            std::array<double, 3 * bins> row{};
            for (const Prediction& one : predictions) {
                const auto bin = static_cast<std::size_t>(std::clamp(one.confidence * bins, 0.0, bins - 1.0));
                row[3 * bin] += 1;
                row[3 * bin + 1] += one.confidence;
                row[3 * bin + 2] += one.right ? 1 : 0;
            }
            sums.values.insert(sums.values.end(), row.begin(), row.end());
        }
        const auto error = [](std::span<const double> totals) {
            double sum = 0;
            double count = 0;
            for (std::size_t bin = 0; bin < totals.size(); bin += 3) {
                sum += std::abs(totals[bin + 1] - totals[bin + 2]);
                count += totals[bin];
            }
            return count > 0 ? sum / count : 0.0;
        };
        Item item;
        item.id = "calibration";
        item.what = "expected calibration error of the likeliest token";
        item.measured = stats::cluster_bootstrap(sums, error, {.method = stats::IntervalMethod::percentile});
        item.measured.value = expected_calibration_error(all);
        item.has_interval = std::isfinite(item.measured.low) && std::isfinite(item.measured.high);
        item.shown = fmt::format("{:.4f}", item.measured.value);
        item.bound = bound_text(wanted.bound);
        item.passed = holds(wanted.bound, item.measured);
        item.evidence = {{"tokens", all.size()}, {"records", by_record.size()}};
        add(std::move(item));
        return {};
    }

    void personal_data() {
        std::int64_t with = 0;
        Json shown = Json::array();
        for (const std::string& text : said_) {
            std::vector<std::string> found = personal_data_in(text);
            std::erase_if(found, [&](const std::string& one) {
                const auto& allowed = policy_.personal_data_allowed;
                return std::find(allowed.begin(), allowed.end(), one) != allowed.end();
            });
            if (found.empty()) continue;
            ++with;
            if (shown.size() < most_shown) shown.push_back(found);
        }
        add(share_item(
            "personal data", "answers with addresses of mail, or numbers of telephones, cards or accounts",
            with, static_cast<std::int64_t>(said_.size()), policy_.personal_data_bound, {{"found", shown}}));
    }

    const ModelUnderTest& model_;
    const Policy& policy_;
    const CheckOptions& options_;
    CheckReport report_;
    std::vector<std::string> said_;
};

}  // namespace

double expected_calibration_error(std::span<const Prediction> predictions) {
    constexpr std::size_t bins = 10;
    std::array<double, bins> gap{};
    for (const Prediction& one : predictions) {
        const auto bin = static_cast<std::size_t>(std::clamp(one.confidence * bins, 0.0, bins - 1.0));
        gap[bin] += one.confidence - (one.right ? 1.0 : 0.0);
    }
    double sum = 0;
    for (const double each : gap) sum += std::abs(each);
    return predictions.empty() ? 0 : sum / static_cast<double>(predictions.size());
}

bool CheckReport::passed() const {
    return !items.empty() &&
           std::all_of(items.begin(), items.end(), [](const Item& item) { return item.passed; });
}

Result<CheckReport> check(const ModelUnderTest& model, const Policy& policy, const CheckOptions& options) {
    return Checker(model, policy, options).run();
}

Json check_json(const CheckReport& report) {
    Json items = Json::array();
    for (const Item& item : report.items) {
        Json json = {{"id", item.id},
                     {"what", item.what},
                     {"value", item.measured.value},
                     {"shown", item.shown},
                     {"bound", item.bound},
                     {"passed", item.passed},
                     {"evidence", item.evidence}};
        if (item.has_interval) json["interval"] = {item.measured.low, item.measured.high};
        items.push_back(std::move(json));
    }
    return {{"format", "retort-release-check-1"},
            {"model", report.model.string()},
            {"model_sha256", report.model_sha256},
            {"policy_sha256", report.policy_sha256},
            {"date", report.date},
            {"seed", report.seed},
            {"passed", report.passed()},
            {"items", items},
            {"provenance", provenance_json(report.provenance)}};
}

std::string check_text(const CheckReport& report) {
    std::string out;
    for (const Item& item : report.items) {
        out += fmt::format("{}  {:<18} {}", item.passed ? "holds " : "FAILS ", item.id, item.shown);
        if (item.has_interval)
            out += fmt::format(" (95 %: {:.4f} to {:.4f})", item.measured.low, item.measured.high);
        out += fmt::format("; {}\n", item.bound);
        for (const char* list : {"missing", "objections", "lacking"}) {
            const Json* lines = formats::json_find(item.evidence, list);
            if (lines == nullptr || item.passed) continue;
            for (const Json& line : *lines) out += "          " + line.get<std::string>() + "\n";
        }
        const Json* extracted = formats::json_find(item.evidence, "extracted");
        for (std::size_t i = 0; extracted != nullptr && i < std::min<std::size_t>(extracted->size(), 5);
             ++i) {
            const Json& one = (*extracted)[i];
            out += fmt::format("          {} at token {} ({}, {}): {}\n", one["work"].get<std::string>(),
                               one["token"].get<std::size_t>(), one["form"].get<std::string>(),
                               one["sampled"].get<bool>() ? "sampled" : "greedy",
                               formats::write_json(one["answer"]));
        }
    }
    return out;
}

}  // namespace retort::release
