#include "screen/screen.h"

#include <algorithm>
#include <utility>

namespace retort::screen {

using formats::Json;

Result<Screen> Screen::open(const std::filesystem::path& folder, const std::filesystem::path& public_folder,
                            GateOptions options, bool verify) {
    if (options.verbatim.words == 0 && options.verbatim.characters == 0 && !options.look_near &&
        options.coverage > 1) {
        return fail(ErrorCode::invalid_argument, "no limit is set: words, characters, near or coverage");
    }
    if (options.verbatim.words > 0 && options.verbatim.words < gram_words) {
        return fail(ErrorCode::invalid_argument, "passages of {} words; the index finds {} or more",
                    options.verbatim.words, gram_words);
    }
    RETORT_TRY(Index index, Index::open(folder, verify));
    std::optional<Index> everybodys;
    if (!public_folder.empty()) {
        RETORT_TRY(everybodys, Index::open(public_folder, verify));
    }
    return Screen(std::move(index), std::move(everybodys), options);
}

bool Screen::is_public(const Query& query, const Span& span, const std::vector<Span>& known) const {
    std::size_t rest = span.begin;
    for (const Span& other : known) {
        if (other.end <= rest) continue;
        if (other.begin >= span.end) break;
        if (other.begin > rest && query.reaches(rest, other.begin, options_.verbatim)) return false;
        rest = std::max(rest, other.end);
    }
    return rest >= span.end || !query.reaches(rest, span.end, options_.verbatim);
}

Finding Screen::describe(const Query& query, const Span& span, std::string kind) const {
    Finding finding;
    finding.kind = std::move(kind);
    finding.begin = query.words.begins[span.begin];
    finding.end = query.words.ends[span.end - 1];
    finding.words = span.end - span.begin;
    finding.characters = span_characters(query.text, query.words, span.begin, span.end);
    finding.identity = span.identity;
    const Part& part = index_.parts[span.part];
    if (const Work* work = part.work_at(span.place)) {
        finding.work = work->name;
        finding.work_sha256 = work->sha256;
        finding.work_begin = part.begin_of(span.place);
        finding.work_end =
            span.place_end < work->first_word + work->words ? part.begin_of(span.place_end) : work->bytes;
    }
    return finding;
}

Result<TextReport> Screen::check(std::string_view text) const {
    RETORT_TRY(const Query query, Query::make(text));
    TextReport report;
    report.words = query.words.size();
    std::vector<std::pair<Span, bool>> spans;  // near?
    for (const Span& span : verbatim_spans(index_.parts, query, options_.verbatim))
        spans.emplace_back(span, false);
    if (options_.look_near) {
        for (std::size_t i = 0; i < index_.parts.size(); ++i) {
            for (Span span : near_spans(index_.parts[i], query, options_.near)) {
                span.part = i;
                const bool told = std::any_of(spans.begin(), spans.end(), [&](const auto& other) {
                    return other.first.begin <= span.begin && span.end <= other.first.end;
                });
                if (!told) spans.emplace_back(span, true);
            }
        }
        std::stable_sort(spans.begin(), spans.end(),
                         [](const auto& a, const auto& b) { return a.first.begin < b.first.begin; });
    }
    if (!spans.empty() && public_) {
        const std::vector<Span> known = verbatim_spans(public_->parts, query, options_.verbatim);
        std::erase_if(spans, [&](const auto& span) { return is_public(query, span.first, known); });
    }
    for (const auto& [span, near] : spans) {
        report.findings.push_back(describe(query, span, near ? "near" : "verbatim"));
        report.longest_words = std::max(report.longest_words, report.findings.back().words);
    }
    if (options_.coverage <= 1 && report.words > 0) {
        std::vector<bool> covered(query.words.size());
        for (const Part& part : index_.parts) mark_covered(part, query, covered);
        std::vector<bool> everybodys(query.words.size());
        if (public_) {
            for (const Part& part : public_->parts) mark_covered(part, query, everybodys);
        }
        std::size_t count = 0;
        for (std::size_t i = 0; i < covered.size(); ++i) count += covered[i] && !everybodys[i] ? 1 : 0;
        report.coverage = static_cast<double>(count) / static_cast<double>(report.words);
    }
    report.exceeds =
        !report.findings.empty() || (options_.coverage <= 1 && report.coverage > options_.coverage);
    return report;
}

Json to_json(const Finding& finding) {
    return {{"kind", finding.kind},
            {"begin", finding.begin},
            {"end", finding.end},
            {"words", finding.words},
            {"characters", finding.characters},
            {"identity", finding.identity},
            {"work", finding.work},
            {"work_sha256", finding.work_sha256},
            {"work_begin", finding.work_begin},
            {"work_end", finding.work_end}};
}

Json to_json(const TextReport& report) {
    Json findings = Json::array();
    for (const Finding& finding : report.findings) findings.push_back(to_json(finding));
    return {{"words", report.words},
            {"findings", findings},
            {"longest_words", report.longest_words},
            {"coverage", report.coverage},
            {"exceeds", report.exceeds}};
}

std::string describe(const Finding& finding, std::string_view text) {
    const auto clean = [](std::string_view piece) {
        std::string out;
        for (const char c : piece) {
            const bool space = static_cast<unsigned char>(c) <= ' ';
            if (!space) {
                out += c;
            } else if (!out.empty() && out.back() != ' ') {
                out += ' ';
            }
        }
        return out;
    };
    const auto is_middle = [&](std::uint64_t at) {
        return (static_cast<unsigned char>(text[at]) & 0xC0U) == 0x80U;
    };
    std::string quote;
    constexpr std::uint64_t shown = 60;
    if (finding.end - finding.begin <= 2 * shown) {
        quote = clean(text.substr(finding.begin, finding.end - finding.begin));
    } else {
        std::uint64_t first = finding.begin + shown;
        while (is_middle(first)) ++first;
        std::uint64_t second = finding.end - shown;
        while (is_middle(second)) ++second;
        quote = clean(text.substr(finding.begin, first - finding.begin)) + " … " +
                clean(text.substr(second, finding.end - second));
    }
    return fmt::format(
        "{} words ({}{}) of {}, bytes {} to {}: \"{}\"", finding.words, finding.kind,
        finding.kind == "near" ? fmt::format(", {:.0f} % the same", 100 * finding.identity) : "",
        finding.work, finding.work_begin, finding.work_end, quote);
}

}  // namespace retort::screen
