#include "curate/curate.h"

#include <algorithm>
#include <array>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "base/file.h"
#include "base/hash.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "curate/contamination.h"
#include "curate/drop.h"
#include "curate/judge_drops.h"
#include "curate/mix.h"
#include "curate/near_duplicates.h"
#include "data/prompts.h"

namespace retort::curate {

namespace fs = std::filesystem;
using data::Record;
using formats::Json;

namespace {

constexpr std::array<std::string_view, 3> split_names = {"train", "validation", "test"};

Status check_options(const CurateOptions& options) {
    if (options.inputs.empty()) return fail(ErrorCode::invalid_argument, "no records are named");
    if (options.output.empty()) return fail(ErrorCode::invalid_argument, "no output folder is named");
    if (!(options.validation_share >= 0) || !(options.test_share >= 0) ||
        !(options.validation_share + options.test_share < 1)) {
        return fail(ErrorCode::invalid_argument,
                    "shares of validation {} and test {} leave nothing to train on", options.validation_share,
                    options.test_share);
    }
    if (options.judge) {
        const Judge& judge = *options.judge;
        if (judge.least_score < least_judge_score || judge.least_score > most_judge_score) {
            return fail(ErrorCode::invalid_argument, "a judge's least score of {}; scores are from {} to {}",
                        judge.least_score, least_judge_score, most_judge_score);
        }
        if (!judge.prompt.empty()) RETORT_CHECK(check_judge_prompt(judge.prompt, "judge"));
    }
    if (!(options.reasoning_mix >= 0 && options.reasoning_mix <= 1e6)) {
        return fail(ErrorCode::invalid_argument,
                    "a reasoning mix of {}; answers with reasoning to a plain one, above 0, or 0 for no mix",
                    options.reasoning_mix);
    }
    if (options.contamination_ngram < 1) return fail(ErrorCode::invalid_argument, "contamination_ngram is 0");
    if (!(options.near_duplicate_similarity > 0)) {
        return fail(ErrorCode::invalid_argument,
                    "near_duplicate_similarity is {}; above 0, and above 1 for none",
                    options.near_duplicate_similarity);
    }
    constexpr std::array<std::string_view, 7> known = {"en", "de", "fr", "es", "it", "pt", "nl"};
    if (!options.language.empty() && std::find(known.begin(), known.end(), options.language) == known.end()) {
        return fail(ErrorCode::invalid_argument, "language \"{}\" cannot be told from others; known are {}",
                    options.language, fmt::join(known, ", "));
    }
    return {};
}

std::string prompt_text(const Record& record) {
    std::string text;
    for (const data::Message& message : record.request.messages) text += message.content + "\n";
    return text;
}

std::int64_t character_count(std::string_view text) {
    return std::count_if(text.begin(), text.end(),
                         [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; });
}

class Curator {
  public:
    explicit Curator(const CurateOptions& options)
        : options_(options),
          contamination_(options.contamination_ngram),
          near_duplicates_(options.near_duplicate_similarity) {}

    Status prepare() {
        for (const fs::path& path : options_.decontaminate) RETORT_CHECK(contamination_.read(path));
        return {};
    }

    // The reason to drop a record, or nothing; verdicts are noted in it.
    Result<std::optional<Drop>> look_at(Record& record, CurateReport& report) {
        if (auto drop = look_alone(record)) return drop;
        if (options_.verifier) {
            auto verdict = options_.verifier->check(record.content, record.metadata);
            if (!verdict) return fail_from(verdict.error(), "record " + record.id);
            ++report.verified;
            report.verified_passed += verdict->passed ? 1 : 0;
            record.verdicts[options_.verifier->type()] =
                verdict->passed ? Json{{"passed", true}}
                                : Json{{"passed", false}, {"reason", verdict->reason}};
            if (!verdict->passed) return Drop{"verifier", verdict->reason};
        }
        if (!options_.decontaminate.empty()) {
            for (const data::Message& message : record.request.messages) {
                if (message.role == "system") continue;
                if (const auto gram = contamination_.shared(message.content))
                    return Drop{"contaminated", *gram};
            }
            for (const std::string* text : {&record.content, &record.reasoning}) {
                if (const auto gram = contamination_.shared(*text)) return Drop{"contaminated", *gram};
            }
        }
        if (options_.protected_works != nullptr) {
            for (const std::string* text : {&record.content, &record.reasoning}) {
                RETORT_TRY(const screen::TextReport found, options_.protected_works->check(*text));
                if (!found.exceeds) continue;
                return Drop{"protected", found.findings.empty()
                                             ? fmt::format("{:.1f} % of its words", 100 * found.coverage)
                                             : screen::describe(found.findings.front(), *text)};
            }
        }
        return look_beside_others(record);
    }

  private:
    std::optional<Drop> look_alone(const Record& record) const {
        if (record.content.find_first_not_of(" \t\r\n") == std::string::npos) return Drop{"empty", ""};
        if (options_.drop_truncated && record.finish_reason == "length") {
            return Drop{"truncated", fmt::format("cut at {} tokens", record.request.max_tokens)};
        }
        if (options_.drop_bad_reasoning) {
            if (auto what = reasoning_fault(record.content, record.reasoning))
                return Drop{"reasoning", *what};
        }
        const std::int64_t characters = character_count(record.content);
        if (characters < options_.min_characters)
            return Drop{"too_short", fmt::format("{} characters", characters)};
        if (options_.max_characters > 0 && characters > options_.max_characters) {
            return Drop{"too_long", fmt::format("{} characters", characters)};
        }
        if (options_.min_tokens > 0 || options_.max_tokens > 0) {
            const std::int64_t tokens =
                options_.tokenizer != nullptr
                    ? static_cast<std::int64_t>(options_.tokenizer->encode(record.content).size())
                    : record.usage.completion_tokens;
            if (tokens < options_.min_tokens) return Drop{"too_short", fmt::format("{} tokens", tokens)};
            if (options_.max_tokens > 0 && tokens > options_.max_tokens) {
                return Drop{"too_long", fmt::format("{} tokens", tokens)};
            }
        }
        if (options_.drop_refusals) {
            if (const auto phrase = refusal_phrase(record.content))
                return Drop{"refusal", std::string(*phrase)};
        }
        if (options_.drop_repetitive) {
            if (auto what = repetition(record.content, options_.repetition)) return Drop{"repetitive", *what};
            if (auto what = repetition(record.reasoning, options_.repetition))
                return Drop{"repetitive", *what};
        }
        const std::string prompt = prompt_text(record);
        if (const auto script = foreign_script(prompt, record.content, options_.foreign_script_share)) {
            return Drop{"mixed_language", fmt::format("{} letters", script_name(*script))};
        }
        if (const auto script = foreign_script(prompt, record.reasoning, options_.foreign_script_share)) {
            return Drop{"mixed_language", fmt::format("{} letters in its reasoning", script_name(*script))};
        }
        if (!options_.language.empty()) {
            const std::string language = guess_language(record.content);
            if (!language.empty() && language != options_.language) return Drop{"language", language};
        }
        return std::nullopt;
    }

    std::optional<Drop> look_beside_others(const Record& record) {
        if (options_.drop_exact_duplicates) {
            // Two ways to reason to the same answer are two answers.
            const std::string key = data::normalised_prompt(record.request.messages) + "\n" + record.content +
                                    "\n\x1e" + record.reasoning;
            const auto [place, is_new] = exact_.emplace(base::sha256_hex(key), record.id);
            if (!is_new) return Drop{"duplicate", "of " + place->second};
        }
        if (options_.near_duplicate_similarity <= 1) {
            const auto match = near_duplicates_.add(
                record.reasoning.empty() ? record.content : record.reasoning + "\n" + record.content,
                static_cast<std::int64_t>(ids_.size()));
            ids_.push_back(record.id);
            if (match.index >= 0) {
                return Drop{"near_duplicate",
                            fmt::format("of {} ({:.2f})", ids_[static_cast<std::size_t>(match.index)],
                                        match.similarity)};
            }
        }
        return std::nullopt;
    }

    const CurateOptions& options_;
    Contamination contamination_;
    NearDuplicates near_duplicates_;
    std::unordered_map<std::string, std::string> exact_;
    std::vector<std::string> ids_;
};

struct Split {
    data::RecordWriter records;
    base::AtomicFile messages;
    std::unordered_set<std::string> prompts;
};

Result<std::vector<Split>> open_splits(const CurateOptions& options) {
    std::vector<Split> splits;
    for (const std::string_view name : split_names) {
        const std::string file = std::string(name) + ".jsonl";
        RETORT_TRY(data::RecordWriter records, data::RecordWriter::create(options.output / file));
        RETORT_TRY(base::AtomicFile messages, base::AtomicFile::create(options.output / "messages" / file));
        splits.push_back({std::move(records), std::move(messages), {}});
    }
    return splits;
}

Result<std::vector<fs::path>> input_files(const CurateOptions& options) {
    std::vector<fs::path> files;
    for (const fs::path& input : options.inputs) {
        std::error_code error;
        const fs::path file = fs::is_directory(input, error) ? input / "records.jsonl" : input;
        if (!fs::is_regular_file(file, error)) {
            return fail(ErrorCode::not_found, "{}: there are no records; collect writes them", file.string());
        }
        files.push_back(file);
    }
    return files;
}

// Terms go on with the records that name them.
Status keep_terms(const std::vector<fs::path>& files, const fs::path& output) {
    for (const fs::path& file : files) {
        std::error_code error;
        const fs::path folder = file.has_parent_path() ? file.parent_path() : fs::path(".");
        for (fs::directory_iterator at(folder, error); !error && at != fs::directory_iterator();
             at.increment(error)) {
            const std::string name = at->path().filename().string();
            if (!name.starts_with("terms-") || !at->is_regular_file(error)) continue;
            if (fs::equivalent(folder, output, error)) continue;
            RETORT_TRY(const std::string text, base::read_file(at->path(), std::size_t{1} << 20U));
            RETORT_CHECK(base::write_file_atomic(output / name, std::string_view(text)));
        }
    }
    return {};
}

// A line of dropped.jsonl: the record as it came, and why it went.
std::string dropped_line(const Record& record, const Drop& drop) {
    Record copy = record;
    copy.verdicts["dropped"] = {{"reason", drop.reason}, {"detail", drop.detail}};
    return data::write_record(copy) + "\n";
}

}  // namespace

std::string split_of(std::string_view normalised_prompt, const CurateOptions& options) {
    const base::Sha256 digest = base::sha256(options.split_salt + "\n" + std::string(normalised_prompt));
    std::uint64_t bits = 0;
    for (std::size_t i = 0; i < 8; ++i) bits = bits << 8U | digest[i];
    const double place = static_cast<double>(bits >> 11U) * 0x1.0p-53;
    if (place < options.test_share) return "test";
    if (place < options.test_share + options.validation_share) return "validation";
    return "train";
}

Result<CurateReport> curate(const CurateOptions& options) {
    RETORT_CHECK(check_options(options));
    RETORT_TRY(const std::vector<fs::path> files, input_files(options));
    RETORT_CHECK(base::make_folders(options.output / "messages"));
    RETORT_TRY(const base::FileLock lock, base::FileLock::acquire(options.output / ".lock"));

    Curator curator(options);
    RETORT_CHECK(curator.prepare());
    RETORT_TRY(std::vector<Split> splits, open_splits(options));
    RETORT_TRY(base::AtomicFile dropped, base::AtomicFile::create(options.output / "dropped.jsonl"));
    CurateReport report;
    base::Progress progress("curate", 0, "records", options.quiet);
    const auto drop_record = [&](const Record& record, const Drop& drop) -> Status {
        ++report.dropped[drop.reason];
        return dropped.write(std::string_view(dropped_line(record, drop)));
    };
    const auto write_kept = [&](const Record& record, const std::string& prompt,
                                const std::string& name) -> Status {
        const auto place = std::find(split_names.begin(), split_names.end(), name) - split_names.begin();
        Split& split = splits[static_cast<std::size_t>(place)];
        split.prompts.insert(base::sha256_hex(prompt));
        ++report.kept;
        report.reasoning[name] += has_reasoning(record) ? 1 : 0;
        RETORT_CHECK(split.records.add(record));
        return split.messages.write(std::string_view(data::write_messages_line(record) + "\n"));
    };
    std::vector<Record> to_mix;  // for training, when their kinds are to be in proportion
    const auto keep_record = [&](Record&& record) -> Status {
        const std::string prompt = data::normalised_prompt(record.request.messages);
        const std::string name = split_of(prompt, options);
        if (options.reasoning_mix <= 0 || name != split_names.front())
            return write_kept(record, prompt, name);
        to_mix.push_back(std::move(record));
        return {};
    };
    std::vector<Record> waiting;  // for the judge
    for (const fs::path& file : files) {
        if (auto manifest = data::read_manifest(data::manifest_path(file)); manifest) {
            report.parents.push_back(manifest->merkle_root);
            for (Split& split : splits) split.records.add_parent(manifest->merkle_root);
        }
        RETORT_CHECK(data::read_records(file, [&](Record&& record) -> Status {
            if (base::interrupted()) return fail(ErrorCode::cancelled, "interrupted; nothing was written");
            progress.update(static_cast<std::uint64_t>(++report.read));
            RETORT_TRY(const std::optional<Drop> drop, curator.look_at(record, report));
            if (drop) return drop_record(record, *drop);
            if (!options.judge) return keep_record(std::move(record));
            waiting.push_back(std::move(record));
            return {};
        }));
    }
    if (options.judge) {
        RETORT_TRY(const std::vector<std::optional<Drop>> drops, ask_judge(*options.judge, waiting, report));
        for (std::size_t i = 0; i < waiting.size(); ++i)
            RETORT_CHECK(drops[i] ? drop_record(waiting[i], *drops[i]) : keep_record(std::move(waiting[i])));
    }
    if (!to_mix.empty()) {
        const auto drawn = drops_by_mix(to_mix, options.reasoning_mix);
        if (!drawn) return fail_from(drawn.error(), (options.output / "train.jsonl").string());
        const std::vector<std::optional<Drop>>& drops = *drawn;
        for (std::size_t i = 0; i < to_mix.size(); ++i) {
            RETORT_CHECK(drops[i] ? drop_record(to_mix[i], *drops[i])
                                  : write_kept(to_mix[i], data::normalised_prompt(to_mix[i].request.messages),
                                               std::string(split_names.front())));
        }
    }
    for (std::size_t i = 0; i < splits.size(); ++i) {
        const std::string name(split_names[i]);
        report.prompts[name] = static_cast<std::int64_t>(splits[i].prompts.size());
        RETORT_CHECK(splits[i].messages.commit());
        RETORT_TRY(report.splits[name], splits[i].records.commit());
    }
    RETORT_CHECK(dropped.commit());
    RETORT_CHECK(keep_terms(files, options.output));
    RETORT_CHECK(
        base::write_file_atomic(options.output / "report.json", std::string_view(report_json(report))));
    progress.finish(fmt::format("{} kept", report.kept));
    return report;
}

std::string report_json(const CurateReport& report) {
    Json dropped = Json::object();
    for (const auto& [reason, count] : report.dropped) dropped[reason] = count;
    Json splits = Json::object();
    for (const auto& [name, manifest] : report.splits) {
        const auto prompts = report.prompts.find(name);
        const auto reasoning = report.reasoning.find(name);
        splits[name] = {{"records", manifest.records},
                        {"reasoning", reasoning == report.reasoning.end() ? 0 : reasoning->second},
                        {"prompts", prompts == report.prompts.end() ? 0 : prompts->second},
                        {"completion_tokens", manifest.usage.completion_tokens},
                        {"merkle_root", manifest.merkle_root}};
    }
    Json json = {{"read", report.read},         {"kept", report.kept},
                 {"dropped", dropped},          {"splits", splits},
                 {"verified", report.verified}, {"verified_passed", report.verified_passed},
                 {"parents", report.parents}};
    if (report.judged > 0) {
        json["judged"] = report.judged;
        for (const auto& [score, count] : report.judge_scores)
            json["judge_scores"][std::to_string(score)] = count;
    }
    return formats::write_json(json, 2) + "\n";
}

}  // namespace retort::curate
