// retort screen: passages that texts share with protected works.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/parallel.h"
#include "cli/commands.h"
#include "formats/jsonl.h"
#include "screen/index.h"
#include "screen/read_work.h"
#include "screen/screen.h"

namespace retort::cli {

namespace {

namespace fs = std::filesystem;
using formats::Json;

// Regular files, folders' in order of their names; what begins with a dot inside a folder is left out.
Result<std::vector<fs::path>> files_of(const std::vector<std::string>& inputs) {
    std::vector<fs::path> files;
    for (const std::string& input : inputs) {
        std::error_code error;
        if (fs::is_regular_file(input, error)) {
            files.emplace_back(input);
            continue;
        }
        if (!fs::is_directory(input, error)) return fail(ErrorCode::not_found, "{}: not there", input);
        std::vector<fs::path> found;
        fs::recursive_directory_iterator at(input, fs::directory_options::skip_permission_denied, error);
        for (; !error && at != fs::recursive_directory_iterator(); at.increment(error)) {
            if (at->path().filename().string().starts_with('.')) {
                if (at->is_directory(error)) at.disable_recursion_pending();
                continue;
            }
            if (at->is_regular_file(error)) found.push_back(at->path());
        }
        if (error) return fail(ErrorCode::io, "{}: {}", input, error.message());
        std::sort(found.begin(), found.end());
        files.insert(files.end(), found.begin(), found.end());
    }
    return files;
}

bool is_json_lines(const fs::path& path) {
    return path.extension() == ".jsonl" || path.extension() == ".ndjson";
}

// Every text in a line of JSON, under its place; of a record, what the teacher answered.
void texts_in(const Json& json, const std::string& place,
              std::vector<std::pair<std::string, std::string>>& out) {
    if (json.is_string()) {
        out.emplace_back(place, json.get<std::string>());
    } else if (json.is_array()) {
        for (std::size_t i = 0; i < json.size(); ++i) texts_in(json[i], fmt::format("{}/{}", place, i), out);
    } else if (json.is_object()) {
        for (const auto& [key, value] : json.items()) texts_in(value, place + "/" + key, out);
    }
}
std::vector<std::pair<std::string, std::string>> texts_of_line(const Json& json) {
    std::vector<std::pair<std::string, std::string>> out;
    const Json* answer = formats::json_find(json, "answer");
    const Json* content = answer == nullptr ? nullptr : formats::json_find(*answer, "content");
    if (content != nullptr) {
        texts_in(*answer, "/answer", out);
    } else {
        texts_in(json, "", out);
    }
    return out;
}

// ---- index

struct IndexCommand {
    std::vector<std::string> inputs;
    screen::IndexOptions index;
    std::uint64_t memory_megabytes = 4096;
};

Status add_file(screen::IndexBuilder& builder, const fs::path& path) {
    auto opened = base::MappedFile::open(path);
    if (!opened) {
        builder.skip(opened.error().message);
        return {};
    }
    const std::string_view bytes = opened->text();
    const std::string sha256 = base::sha256_hex(bytes);
    if (builder.knows(sha256)) return {};
    if (is_json_lines(path)) {
        std::string text;
        RETORT_CHECK(formats::read_jsonl(path, [&](std::uint64_t, Json& json) -> Status {
            for (const auto& [place, piece] : texts_of_line(json)) text += piece + "\n";
            return {};
        }));
        return builder.add({path.string(), "records", sha256, std::move(text)});
    }
    auto read = screen::read_text(path, bytes);
    if (!read) {
        builder.skip(read.error().message);
        return {};
    }
    return builder.add({path.string(), std::move(read->format), sha256, std::move(read->text)});
}

// The index with its parts made one; where that fails they are as they were, which is an index too.
Result<screen::Index> merged_index(const fs::path& folder, std::uint64_t memory_bytes,
                                   const CommonOptions& common) {
    if (!common.quiet && !common.json) spdlog::info("screen index: the parts are made one");
    auto merged = screen::merge_index(folder, memory_bytes);
    if (!merged) {
        return fail(merged.error().code,
                    "{}; the index is whole in its parts, and `retort screen merge {}` makes one of them",
                    merged.error().message, folder.string());
    }
    return screen::Index::open(folder, false);
}

Status run_index(const IndexCommand& given, const CommonOptions& common) {
    screen::IndexOptions options = given.index;
    options.memory_bytes = given.memory_megabytes << 20U;
    RETORT_TRY(const std::vector<fs::path> files, files_of(given.inputs));
    RETORT_TRY(screen::IndexBuilder builder, screen::IndexBuilder::create(options));
    const double start = base::monotonic_seconds();
    base::Progress progress("index", files.size(), "files", common.quiet || common.json);
    for (std::size_t i = 0; i < files.size(); ++i) {
        if (base::interrupted()) {
            return fail(ErrorCode::cancelled, "stopped; what was finished is in {}, and --add goes on",
                        options.output.string());
        }
        RETORT_CHECK(add_file(builder, files[i]));
        progress.update(i + 1);
    }
    RETORT_CHECK(builder.commit());
    progress.finish();
    screen::IndexReport report = builder.report();
    if (report.parts > 1) {
        RETORT_TRY(const screen::Index index, merged_index(options.output, options.memory_bytes, common));
        report.parts = index.parts.size();
        report.index_bytes = index.size_bytes();
    }
    const double seconds = base::monotonic_seconds() - start;
    if (common.json) {
        const Json json = {{"works", report.works},
                           {"words", report.words},
                           {"text_bytes", report.text_bytes},
                           {"parts", report.parts},
                           {"index_bytes", report.index_bytes},
                           {"skipped", report.skipped},
                           {"seconds", seconds}};
        fmt::print("{}\n", formats::write_json(json, 2));
        return {};
    }
    fmt::print(
        "{}: {} works added, {} words, {:.1f} MB of text in {:.1f} s ({:.1f} MB/s); {:.1f} MB of index\n",
        options.output.string(), report.works, report.words, static_cast<double>(report.text_bytes) * 1e-6,
        seconds, static_cast<double>(report.text_bytes) * 1e-6 / std::max(seconds, 1e-9),
        static_cast<double>(report.index_bytes) * 1e-6);
    for (const std::string& reason : report.skipped) fmt::print("  left out: {}\n", reason);
    return {};
}

// ---- merge

struct MergeCommand {
    std::string index;
    std::uint64_t memory_megabytes = 4096;
};

Status run_merge(const MergeCommand& given, const CommonOptions& common) {
    const double start = base::monotonic_seconds();
    auto merged = screen::merge_index(given.index, given.memory_megabytes << 20U);
    if (!merged) return fail(merged.error().code, "{}; the index is as it was", merged.error().message);
    RETORT_TRY(const screen::Index index, screen::Index::open(given.index, false));
    const double seconds = base::monotonic_seconds() - start;
    if (common.json) {
        fmt::print("{}\n", formats::write_json({{"parts_before", *merged},
                                                {"words", index.words()},
                                                {"index_bytes", index.size_bytes()},
                                                {"seconds", seconds}},
                                               2));
        return {};
    }
    fmt::print("{}: {} parts are one of {} words, {:.1f} MB, in {:.1f} s\n", given.index, *merged,
               index.words(), static_cast<double>(index.size_bytes()) * 1e-6, seconds);
    return {};
}

// ---- check

struct CheckCommand {
    std::string index;
    std::vector<std::string> inputs;
    std::string everybodys;
    screen::GateOptions gate;
    bool trust = false;
};

struct CheckedText {
    std::string name;
    std::string text;
    screen::TextReport report;
};

struct CheckTotals {
    std::uint64_t texts = 0;
    std::uint64_t exceeding = 0;
    std::uint64_t bytes = 0;
    double seconds = 0;
};

class Checker {
  public:
    Checker(const screen::Screen& screen, bool json) : screen_(screen), json_(json) {}

    Status add(std::string name, std::string text) {
        waiting_bytes_ += text.size();
        waiting_.push_back({std::move(name), std::move(text), {}});
        constexpr std::size_t batch = std::size_t{64} << 20U;
        return waiting_bytes_ >= batch ? flush() : Status{};
    }

    Status flush() {
        const double start = base::monotonic_seconds();
        std::vector<Status> statuses(waiting_.size());
        base::parallel_each(static_cast<std::int64_t>(waiting_.size()), [&](std::int64_t i) {
            CheckedText& checked = waiting_[static_cast<std::size_t>(i)];
            auto report = screen_.check(checked.text);
            if (report) {
                checked.report = std::move(*report);
            } else {
                statuses[static_cast<std::size_t>(i)] = fail_from(report.error(), checked.name);
            }
        });
        totals_.seconds += base::monotonic_seconds() - start;
        for (const Status& status : statuses) RETORT_CHECK(status);
        for (const CheckedText& checked : waiting_) tell(checked);
        waiting_.clear();
        waiting_bytes_ = 0;
        return {};
    }

    [[nodiscard]] const CheckTotals& totals() const { return totals_; }

  private:
    void tell(const CheckedText& checked) {
        ++totals_.texts;
        totals_.bytes += checked.text.size();
        if (!checked.report.exceeds) return;
        ++totals_.exceeding;
        if (json_) {
            Json json = screen::to_json(checked.report);
            json["text"] = checked.name;
            fmt::print("{}\n", formats::write_json(json));
            return;
        }
        if (screen_.options().coverage <= 1) {
            fmt::print("{}: {:.1f} % of its words lie in passages of the works\n", checked.name,
                       100 * checked.report.coverage);
        }
        for (const screen::Finding& finding : checked.report.findings) {
            fmt::print("{}:{}-{}: {}\n", checked.name, finding.begin, finding.end,
                       screen::describe(finding, checked.text));
        }
    }

    const screen::Screen& screen_;
    bool json_;
    std::vector<CheckedText> waiting_;
    std::size_t waiting_bytes_ = 0;
    CheckTotals totals_;
};

Status check_file(Checker& checker, const fs::path& path) {
    if (is_json_lines(path)) {
        return formats::read_jsonl(path, [&](std::uint64_t line, Json& json) -> Status {
            for (auto& [place, text] : texts_of_line(json)) {
                RETORT_CHECK(
                    checker.add(fmt::format("{}:{}{}", path.string(), line, place), std::move(text)));
            }
            return {};
        });
    }
    RETORT_TRY(const base::MappedFile file, base::MappedFile::open(path));
    RETORT_TRY(screen::ReadText read, screen::read_text(path, file.text()));
    return checker.add(path.string(), std::move(read.text));
}

Status run_check(const CheckCommand& given, const CommonOptions& common) {
    RETORT_TRY(const screen::Screen screen,
               screen::Screen::open(given.index, given.everybodys, given.gate, !given.trust));
    RETORT_TRY(const std::vector<fs::path> files, files_of(given.inputs));
    Checker checker(screen, common.json);
    for (const fs::path& path : files) {
        if (base::interrupted()) return fail(ErrorCode::cancelled, "stopped before {}", path.string());
        RETORT_CHECK(check_file(checker, path));
    }
    RETORT_CHECK(checker.flush());
    const CheckTotals& totals = checker.totals();
    if (!common.json && !common.quiet) {
        fmt::print("{} texts, {:.1f} MB against {} works of {} words: {} exceed the limits ({:.1f} MB/s)\n",
                   totals.texts, static_cast<double>(totals.bytes) * 1e-6, screen.index().works(),
                   screen.index().words(), totals.exceeding,
                   static_cast<double>(totals.bytes) * 1e-6 / std::max(totals.seconds, 1e-9));
    }
    if (totals.exceeding > 0) {
        return fail(ErrorCode::refused, "{} of {} texts repeat protected works", totals.exceeding,
                    totals.texts);
    }
    return {};
}

void add_index(Commands& commands, CLI::App& parent) {
    auto options = std::make_shared<IndexCommand>();
    CLI::App& app = commands.add_nested(
        parent, "index",
        "make an index of works: text, Markdown, HTML, EPUB, PDF, manual pages, any of them in gzip; JSON "
        "lines",
        {"retort screen index works/ -o works.index", "retort screen index new/ -o works.index --add"},
        [options](const CommonOptions& common) { return run_index(*options, common); });
    app.add_option("inputs", options->inputs, "files, or folders that are gone through")->required();
    app.add_option("-o,--output", options->index.output, "the index, a folder")
        ->required()
        ->type_name("INDEX");
    app.add_flag("--add", options->index.add,
                 "add to an index that is there; works that it has are passed over");
    app.add_option("--memory", options->memory_megabytes,
                   "that building may take; more works are made in parts and then merged")
        ->type_name("MIB")
        ->check(CLI::Range(std::uint64_t{16}, std::uint64_t{1} << 20U));
    commands.add_json_option(app);
}

void add_merge(Commands& commands, CLI::App& parent) {
    auto options = std::make_shared<MergeCommand>();
    CLI::App& app = commands.add_nested(
        parent, "merge", "make one part of an index that --add has made parts of: it is searched faster",
        {"retort screen merge works.index"},
        [options](const CommonOptions& common) { return run_merge(*options, common); });
    app.add_option("index", options->index, "what `retort screen index` wrote")
        ->required()
        ->type_name("INDEX");
    app.add_option("--memory", options->memory_megabytes,
                   "that sorting may take; the less it is, the more often the words are gone through")
        ->type_name("MIB")
        ->check(CLI::Range(std::uint64_t{16}, std::uint64_t{1} << 20U));
    commands.add_json_option(app);
}

void add_check(Commands& commands, CLI::App& parent) {
    auto options = std::make_shared<CheckCommand>();
    CLI::App& app = commands.add_nested(
        parent, "check",
        "find passages of the works in texts, records or a model's answers; exit status 1 when there are any",
        {"retort screen check works.index answers/records.jsonl",
         "retort screen check works.index essay.md --near --public quotations.index --json"},
        [options](const CommonOptions& common) { return run_check(*options, common); });
    app.add_option("index", options->index, "what `retort screen index` wrote")
        ->required()
        ->type_name("INDEX");
    app.add_option("inputs", options->inputs,
                   "files or folders; of JSON lines every text, of records the answers")
        ->required();
    app.add_option("--min-tokens", options->gate.verbatim.words,
                   "words of a passage from which on it counts (8 or more); 0: by characters alone")
        ->type_name("N");
    app.add_option("--min-chars", options->gate.verbatim.characters,
                   "characters from which on it counts, of 8 words or more; 0: by words alone")
        ->type_name("N");
    app.add_flag("--near", options->gate.look_near, "near-verbatim passages too: some words changed");
    app.add_option("--near-tokens", options->gate.near.words, "words of a near-verbatim passage")
        ->type_name("N");
    app.add_option("--near-identity", options->gate.near.identity, "share of its words that are the work's")
        ->type_name("SHARE")
        ->check(CLI::Range(0.5, 1.0));
    app.add_option("--coverage", options->gate.coverage,
                   "largest share of a text's words in 8-grams of the works; above 1: not looked at")
        ->type_name("SHARE")
        ->check(CLI::Range(0.0, 2.0));
    app.add_option("--public", options->everybodys,
                   "index of what everybody may repeat: what of a passage it has too does not count")
        ->type_name("INDEX");
    app.add_flag("--trust", options->trust, "do not read the whole index first to check its sums");
    commands.add_json_option(app);
}

}  // namespace

void add_screen(Commands& commands) {
    CLI::App& app = commands.add(Group::judging, "screen", "passages that texts share with protected works",
                                 {"retort screen index works/ -o works.index",
                                  "retort screen check works.index answers/records.jsonl"},
                                 [](const CommonOptions&) -> Status { return {}; });
    add_index(commands, app);
    add_merge(commands, app);
    add_check(commands, app);
    add_screen_provenance(commands, app);
}

}  // namespace retort::cli
