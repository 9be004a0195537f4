// retort bench tokenize: MB/s of a tokenizer on one thread, for a text as one and for its lines as short
// texts.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/file.h"
#include "base/hash.h"
#include "cli/commands.h"
#include "cli/model_path.h"
#include "text/text_model.h"
#include "text/unicode.h"

namespace retort::cli {

namespace {

struct BenchTokenizeOptions {
    std::string model;
    std::string text;
    int repeats = 5;
    std::string ids;
};

// Each line with its end, as Python's bytes.splitlines(keepends=True) of b"\n" alone has it.
std::vector<std::string_view> lines_of(std::string_view text) {
    std::vector<std::string_view> lines;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find('\n'), text.size() - 1) + 1;
        lines.push_back(text.substr(0, end));
        text.remove_prefix(end);
    }
    return lines;
}

struct Measured {
    double first_seconds = 0;  // with nothing remembered of earlier words
    double best_seconds = 0;
    std::vector<std::int32_t> ids;
};

Measured measure(const text::Tokenizer& tokenizer, const std::vector<std::string_view>& texts, int repeats) {
    Measured measured;
    for (int i = 0; i < repeats; ++i) {
        measured.ids.clear();
        const double start = base::monotonic_seconds();
        for (const std::string_view text : texts) {
            const auto ids = tokenizer.encode(text, {.add_special_tokens = false});
            measured.ids.insert(measured.ids.end(), ids.begin(), ids.end());
        }
        const double seconds = base::monotonic_seconds() - start;
        if (i == 0) measured.first_seconds = measured.best_seconds = seconds;
        measured.best_seconds = std::min(measured.best_seconds, seconds);
    }
    return measured;
}

Status run_bench_tokenize(const BenchTokenizeOptions& options, const CommonOptions& common) {
    RETORT_TRY(const std::filesystem::path model, resolve_model(options.model));
    RETORT_TRY(const base::MappedFile file, base::MappedFile::open(options.text));
    if (file.text().empty()) {
        return fail(ErrorCode::invalid_argument, "{}: the file is empty; give one of some megabytes",
                    options.text);
    }
    const std::string whole = text::lossy_utf8(file.text());
    if (!common.json) fmt::print("{}\n", base::cpu_description());
    for (const bool by_line : {false, true}) {
        // Loaded anew, so that neither finds what the other left in the cache of words.
        RETORT_TRY(const text::TextModel loaded, text::load_text_model(model));
        const auto texts = by_line ? lines_of(whole) : std::vector<std::string_view>{whole};
        const Measured measured = measure(loaded.tokenizer, texts, options.repeats);
        const auto bytes = std::as_bytes(std::span(measured.ids));
        const std::string hash = base::to_hex(base::sha256(bytes));
        const double size = static_cast<double>(whole.size());
        if (!options.ids.empty() && !by_line) RETORT_CHECK(base::write_file_atomic(options.ids, bytes));
        if (common.json) {
            fmt::print("{}\n",
                       nlohmann::json{{"machine", base::cpu_description()},
                                      {"model", model_display_name(model)},
                                      {"text", std::filesystem::path(options.text).filename().string()},
                                      {"texts", texts.size()},
                                      {"bytes", whole.size()},
                                      {"tokens", measured.ids.size()},
                                      {"mb_s", size / measured.best_seconds / 1e6},
                                      {"first_mb_s", size / measured.first_seconds / 1e6},
                                      {"threads", 1},
                                      {"ids_sha256", hash}}
                           .dump());
            continue;
        }
        fmt::print(
            "{:>9} {:<5}  {:7.1f} MB/s, {:.1f} the first time   {:.1f}M tokens/s   {} of {} bytes each\n",
            texts.size(), by_line ? "lines" : "text", size / measured.best_seconds / 1e6,
            size / measured.first_seconds / 1e6,
            static_cast<double>(measured.ids.size()) / measured.best_seconds / 1e6, base::bytes_text(size),
            whole.size() / texts.size());
    }
    return {};
}

}  // namespace

void add_bench_tokenize(Commands& commands, CLI::App& bench) {
    auto options = std::make_shared<BenchTokenizeOptions>();
    CLI::App& command = commands.add_nested(
        bench, "tokenize", "MB/s of a model's tokenizer on one thread",
        {"retort bench tokenize smollm2 --text book.txt",
         "retort bench tokenize smollm2 --text book.txt --json --ids book.ids"},
        [options](const CommonOptions& common) { return run_bench_tokenize(*options, common); });
    command.add_option("model", options->model, "a GGUF file, a folder, or a name under models/")->required();
    command.add_option("--text", options->text, "file to tokenize: as one text, then line by line")
        ->required();
    command.add_option("--repeats", options->repeats, "passes; the fastest and the first are told")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    command.add_option("--ids", options->ids, "write the ids of the whole text here: int32, little endian");
    commands.add_json_option(command);
}

}  // namespace retort::cli
