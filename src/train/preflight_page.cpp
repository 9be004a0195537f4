#include "train/preflight_page.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/clock.h"

namespace retort::train {

namespace {

// A line of /proc/self/status or /proc/meminfo, in bytes; 0 where there is none.
std::int64_t proc_bytes(const char* file, std::string_view key) {
    std::ifstream in(file);
    std::string word;
    std::int64_t kilobytes = 0;
    while (in >> word) {
        if (word == key && in >> kilobytes) return kilobytes * 1024;
    }
    return 0;
}

std::string bytes_of(std::int64_t bytes) {
    return base::bytes_text(static_cast<double>(bytes));
}

std::string_view verdict_name(Verdict verdict) {
    switch (verdict) {
        case Verdict::good:
            return "ok";
        case Verdict::note:
            return "note";
        case Verdict::problem:
            return "PROBLEM";
    }
    return "";
}

}  // namespace

void Page::vocabulary(std::string_view who, std::int64_t rows, std::int64_t ids) {
    if (rows == ids) {
        good("vocabulary", fmt::format("{}: {} rows, as the tokenizer has ids", who, rows));
    } else if (rows > ids) {
        note("vocabulary", fmt::format("{}: {} rows for {} ids; the {} rows of padding are cut from "
                                       "both sides, never taught",
                                       who, rows, ids, rows - ids));
    } else {
        problem("vocabulary", fmt::format("{}: {} rows for {} ids; these weights are of another tokenizer",
                                          who, rows, ids));
    }
}

void Page::memory(std::int64_t peak, std::int64_t loaded, std::string_view mend) {
    const std::int64_t available = proc_bytes("/proc/meminfo", "MemAvailable:") + loaded;
    const std::string text = fmt::format("{} at the peak; {} are there", bytes_of(peak), bytes_of(available));
    if (peak > available) {
        problem("memory", fmt::format("{}; {}", text, mend));
    } else {
        good("memory", text);
    }
}

std::int64_t resident_bytes() {
    return proc_bytes("/proc/self/status", "VmRSS:");
}

std::int64_t peak_resident_bytes() {
    return proc_bytes("/proc/self/status", "VmHWM:");
}

std::string_view without_blanks(std::string_view text) {
    const std::size_t begin = text.find_first_not_of(" \t\r\n");
    if (begin == std::string_view::npos) return {};
    return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

bool Preflight::passed() const {
    return std::none_of(findings.begin(), findings.end(),
                        [](const Finding& finding) { return finding.verdict == Verdict::problem; });
}

std::string preflight_page(const Preflight& found) {
    std::string text;
    for (const Finding& finding : found.findings) {
        text += fmt::format("{:<8} {:<11} {}\n", verdict_name(finding.verdict), finding.about, finding.text);
    }
    return text;
}

std::string preflight_json(const Preflight& found) {
    nlohmann::ordered_json json = {{"passed", found.passed()},
                                   {"memory_bytes", found.memory_bytes},
                                   {"seconds", found.seconds},
                                   {"seconds_per_step", found.seconds_per_step},
                                   {"steps", found.steps},
                                   {"first_loss", found.first_loss},
                                   {"uniform_loss", found.uniform_loss},
                                   {"findings", nlohmann::json::array()}};
    for (const Finding& finding : found.findings) {
        json["findings"].push_back(
            {{"verdict", verdict_name(finding.verdict)}, {"about", finding.about}, {"text", finding.text}});
    }
    return json.dump(2) + "\n";
}

}  // namespace retort::train
