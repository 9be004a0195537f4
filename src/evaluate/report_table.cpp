#include <algorithm>
#include <span>

#include "evaluate/report.h"

namespace retort::evaluate {

namespace {

// Columns a terminal gives the text; continuation bytes take none. Wide scripts are not told apart.
std::size_t columns_of(std::string_view text) {
    return static_cast<std::size_t>(std::count_if(
        text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

// A name may come from a file: what would move the cursor or colour the terminal is left out.
std::string printable(std::string_view text) {
    std::string result;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte >= 0x20 && byte != 0x7F) result += c;
    }
    return result;
}

std::string padded(const std::string& text, std::size_t width, bool right) {
    const std::size_t columns = columns_of(text);
    const std::string space(columns < width ? width - columns : 0, ' ');
    return right ? space + text : text + space;
}

struct TableColumn {
    std::string head;
    std::string unit;
    std::vector<std::string> values;     // a row each
    std::vector<std::string> intervals;  // below the value
    std::size_t width = 0;
};

TableColumn column_of(const MetricInfo& metric, const std::vector<ModelEntry>& models) {
    TableColumn column{printable(metric.name), printable(metric.unit), {}, {}, 0};
    for (const ModelEntry& model : models) {
        const auto found = model.values.find(metric.key);
        const bool there = found != model.values.end();
        column.values.push_back(there ? format_value(metric, found->second.value) : "");
        column.intervals.push_back(there ? format_interval(metric, found->second) : "");
    }
    column.width = std::max(columns_of(column.head), columns_of(column.unit));
    for (const auto* lines : {&column.values, &column.intervals}) {
        for (const std::string& line : *lines) column.width = std::max(column.width, columns_of(line));
    }
    return column;
}

bool any(const std::vector<std::string>& lines, std::size_t index) {
    return !lines[index].empty();
}

void add_line(std::string& text, std::string line) {
    while (line.ends_with(' ')) line.pop_back();
    text += line + "\n";
}

std::string block(const std::vector<std::string>& names, std::size_t name_width,
                  std::span<const TableColumn> columns) {
    constexpr std::string_view gap = "  ";
    const auto row = [&](std::string_view first, const auto& cell) {
        std::string line = padded(std::string(first), name_width, false);
        for (const TableColumn& column : columns) {
            line += gap;
            line += padded(cell(column), column.width, true);
        }
        return line;
    };
    std::string text;
    add_line(text, row("", [](const TableColumn& c) { return c.head; }));
    if (std::any_of(columns.begin(), columns.end(), [](const TableColumn& c) { return !c.unit.empty(); })) {
        add_line(text, row("", [](const TableColumn& c) { return c.unit; }));
    }
    std::size_t rule = name_width;
    for (const TableColumn& column : columns) rule += gap.size() + column.width;
    for (std::size_t i = 0; i < rule; ++i) text += "─";
    text += "\n";
    for (std::size_t i = 0; i < names.size(); ++i) {
        add_line(text, row(names[i], [&](const TableColumn& c) { return c.values[i]; }));
        if (std::any_of(columns.begin(), columns.end(),
                        [&](const TableColumn& c) { return any(c.intervals, i); })) {
            add_line(text, row("", [&](const TableColumn& c) { return c.intervals[i]; }));
        }
    }
    return text;
}

// Breaks at spaces, further lines indented.
std::string wrapped(std::string_view text, std::size_t width, std::string_view indent) {
    std::string result;
    std::size_t used = 0;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find(' '), text.size());
        const std::string_view word = text.substr(0, end);
        if (used > 0 && used + 1 + columns_of(word) > width) {
            result += "\n";
            result += indent;
            used = columns_of(indent);
        } else if (used > 0) {
            result += ' ';
            ++used;
        }
        result += word;
        used += columns_of(word);
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return result;
}

}  // namespace

std::string render_table(const ComparisonReport& report, int width) {
    std::vector<std::string> names;
    std::size_t name_width = 0;
    for (const ModelEntry& model : report.models) {
        names.push_back(printable(model.name));
        name_width = std::max(name_width, columns_of(names.back()));
    }
    const auto limit = static_cast<std::size_t>(std::max(width, 20));
    std::vector<TableColumn> columns;
    for (const MetricInfo& metric : report.metrics) columns.push_back(column_of(metric, report.models));
    std::string text;
    for (std::size_t begin = 0; begin < columns.size();) {
        std::size_t used = name_width;
        std::size_t end = begin;
        while (end < columns.size() && (end == begin || used + 2 + columns[end].width <= limit)) {
            used += 2 + columns[end].width;
            ++end;
        }
        if (begin > 0) text += "\n";
        text += block(names, name_width, std::span(columns).subspan(begin, end - begin));
        begin = end;
    }
    if (!report.findings.empty()) text += "\n";
    for (const Finding& finding : report.findings) {
        const std::string_view mark = finding.verdict == Verdict::supported       ? "✓ "
                                      : finding.verdict == Verdict::not_supported ? "✗ "
                                                                                  : "· ";
        text += wrapped(std::string(mark) + printable(finding.text), limit, "  ") + "\n";
        if (!finding.detail.empty()) {
            text += "  " + wrapped(printable(finding.detail), limit - 2, "  ") + "\n";
        }
    }
    return text;
}

}  // namespace retort::evaluate
