// The gate: what of a text repeats protected works, by stated limits, less what everybody may repeat. Used by
// `screen check`, curating, serving and releasing. Knows nothing of records or models.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/json.h"
#include "screen/index.h"
#include "screen/spans.h"

namespace retort::screen {

struct GateOptions {
    SpanLimits verbatim;
    bool look_near = false;  // near-verbatim passages too
    NearLimits near;
    // Largest share of a text's words that may lie in grams of the works; above 1: not looked at.
    double coverage = 2;
};

struct Finding {
    std::string kind;         // "verbatim" or "near"
    std::uint64_t begin = 0;  // bytes of the text
    std::uint64_t end = 0;
    std::uint64_t words = 0;
    std::uint64_t characters = 0;
    double identity = 1;
    std::string work;
    std::string work_sha256;
    std::uint64_t work_begin = 0;  // bytes of the work's text
    std::uint64_t work_end = 0;    // where the word behind the passage begins, or the work's end
};

struct TextReport {
    std::uint64_t words = 0;
    std::vector<Finding> findings;    // in order
    std::uint64_t longest_words = 0;  // of the findings
    double coverage = 0;              // when it was asked for
    bool exceeds = false;             // any finding, or too much covered
};

class Screen {
  public:
    // public_folder: an index of what may be repeated; empty: none. A passage goes when what of it no public
    // work has too, in passages that reach the same limits, no longer reaches them.
    static Result<Screen> open(const std::filesystem::path& folder,
                               const std::filesystem::path& public_folder, GateOptions options,
                               bool verify = true);
    [[nodiscard]] Result<TextReport> check(std::string_view text) const;
    [[nodiscard]] const Index& index() const { return index_; }
    [[nodiscard]] const GateOptions& options() const { return options_; }

  private:
    Screen(Index index, std::optional<Index> everybodys, GateOptions options)
        : index_(std::move(index)), public_(std::move(everybodys)), options_(options) {}
    [[nodiscard]] bool is_public(const Query& query, const Span& span, const std::vector<Span>& known) const;
    [[nodiscard]] Finding describe(const Query& query, const Span& span, std::string kind) const;
    Index index_;
    std::optional<Index> public_;
    GateOptions options_;
};

formats::Json to_json(const Finding& finding);
formats::Json to_json(const TextReport& report);
// "«… first words … last words …» 63 words, work.txt 1034–1392"
std::string describe(const Finding& finding, std::string_view text);

}  // namespace retort::screen
