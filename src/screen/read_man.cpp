// Manual pages in roff's man and mdoc macros, as far as words go: macros and escapes away, arguments kept.
#include <algorithm>
#include <array>
#include <cctype>
#include <vector>

#include "screen/read_work.h"

namespace retort::screen {

namespace {

// Requests whose arguments are no words of the text: numbers, names of registers and fonts, a page's frame.
constexpr std::array<std::string_view, 46> silent = {
    "AT", "Bd", "Bk", "Bl", "Dd", "Dt", "Ed", "EE", "Ek", "El", "EX", "OP", "Os", "P",  "PD", "PP",
    "RE", "RS", "TE", "TH", "TS", "UC", "YS", "ad", "am", "br", "ce", "de", "ds", "el", "fi", "ft",
    "hy", "ie", "if", "in", "ll", "na", "ne", "nf", "nh", "nr", "ps", "so", "sp", "ti"};
// Their arguments are one word in two fonts.
constexpr std::array<std::string_view, 7> joined = {"BI", "BR", "IB", "IR", "RB", "RI", "SB"};

// In mdoc these stand among the words of other macros' lines.
constexpr std::array<std::string_view, 36> callable = {"Ap", "Aq", "Ar", "Bq", "Cm", "Dc", "Do", "Dq", "Dv",
                                                       "Em", "Er", "Ev", "Fa", "Fl", "Fn", "Ft", "Ic", "Li",
                                                       "Nm", "No", "Ns", "Oc", "Oo", "Op", "Pa", "Pc", "Po",
                                                       "Pq", "Ql", "Qq", "Sq", "Sy", "Ta", "Tn", "Va", "Xr"};

template <typename List>
bool has(const List& list, std::string_view name) {
    return std::find(list.begin(), list.end(), name) != list.end();
}

std::string_view named_character(std::string_view name) {
    constexpr std::array<std::pair<std::string_view, std::string_view>, 22> known = {
        {{"aq", "'"},      {"cq", "\u2019"}, {"oq", "\u2018"}, {"dq", "\""},     {"lq", "\u201C"},
         {"rq", "\u201D"}, {"em", "\u2014"}, {"en", "\u2013"}, {"hy", "-"},      {"mi", "-"},
         {"ha", "^"},      {"ti", "~"},      {"rs", "\\"},     {"ga", "`"},      {"co", "\u00A9"},
         {"bu", " "},      {"de", "\u00B0"}, {":a", "\u00E4"}, {":o", "\u00F6"}, {":u", "\u00FC"},
         {"'e", "\u00E9"}, {"ss", "\u00DF"}}};
    const auto found =
        std::find_if(known.begin(), known.end(), [&](const auto& one) { return one.first == name; });
    return found == known.end() ? std::string_view(" ") : found->second;
}

// A name behind an escape: "x", "(xx" or "[xxx]"; `at` goes behind it.
std::string_view name_at(std::string_view line, std::size_t& at) {
    if (at >= line.size()) return {};
    if (line[at] == '(') {
        const std::string_view name = line.substr(at + 1, 2);
        at = std::min(line.size(), at + 3);
        return name;
    }
    if (line[at] == '[') {
        const std::size_t end = std::min(line.find(']', at), line.size());
        const std::string_view name = line.substr(at + 1, end - at - 1);
        at = std::min(line.size(), end + 1);
        return name;
    }
    return line.substr(at++, 1);
}

void append_unescaped(std::string_view line, std::string& out) {
    for (std::size_t at = 0; at < line.size();) {
        if (line[at] != '\\' || at + 1 == line.size()) {
            out += line[at++];
            continue;
        }
        const char kind = line[at + 1];
        at += 2;
        if (kind == '"' || kind == '#') return;  // a comment to the line's end
        if (kind == '(' || kind == '[') {
            --at;
            out += named_character(name_at(line, at));
        } else if (kind == 'f' || kind == '*' || kind == 'n' || kind == 'F' || kind == 'g' || kind == 'k' ||
                   kind == 'm' || kind == 'M') {
            (void)name_at(line, at);
        } else if (kind == 's') {
            if (at < line.size() && (line[at] == '+' || line[at] == '-')) ++at;
            while (at < line.size() && std::isdigit(static_cast<unsigned char>(line[at])) != 0) ++at;
        } else if (std::string_view("hvwbDlLoxXZ").find(kind) != std::string_view::npos && at < line.size()) {
            const std::size_t end = line.find(line[at], at + 1);
            at = end == std::string_view::npos ? line.size() : end + 1;
        } else if (kind == '-') {
            out += '-';
        } else if (kind == 'e' || kind == '\\' || kind == 'E') {
            out += '\\';
        } else if (kind == ' ' || kind == '~' || kind == '0' || kind == 't') {
            out += ' ';
        } else if (kind == '\'' || kind == '`' || kind == '.') {
            out += kind;
        }
        // Others (\& \| \^ \% \: \/ \, \c \{ \}) print nothing.
    }
}

std::vector<std::string> arguments_of(std::string_view rest) {
    std::vector<std::string> out;
    for (std::size_t at = 0; at < rest.size();) {
        if (rest[at] == ' ' || rest[at] == '\t') {
            ++at;
            continue;
        }
        if (rest.substr(at).starts_with("\\\"")) break;
        std::string one;
        if (rest[at] == '"') {
            for (++at; at < rest.size(); ++at) {
                if (rest[at] == '"') {
                    if (at + 1 >= rest.size() || rest[at + 1] != '"') break;
                    ++at;  // two of them are one
                }
                one += rest[at];
            }
            ++at;
        } else {
            while (at < rest.size() && rest[at] != ' ' && rest[at] != '\t') {
                if (rest[at] == '\\' && at + 1 < rest.size()) one += rest[at++];
                one += rest[at++];
            }
        }
        out.push_back(std::move(one));
    }
    return out;
}

}  // namespace

bool looks_like_manual(std::string_view bytes) {
    const std::string_view head = bytes.substr(0, 16384);
    for (const std::string_view macro : {".TH ", ".Dd ", ".Dt "}) {
        if (head.starts_with(macro) || head.find("\n" + std::string(macro)) != std::string_view::npos)
            return true;
    }
    return false;
}

std::string man_text(std::string_view bytes) {
    std::string out;
    bool defining = false;
    const bool mdoc = bytes.starts_with(".Dd ") || bytes.find("\n.Dd ") < 16384;
    while (!bytes.empty()) {
        const std::size_t end = std::min(bytes.find('\n'), bytes.size());
        std::string_view line = bytes.substr(0, end);
        bytes.remove_prefix(std::min(bytes.size(), end + 1));
        if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
        if (defining) {  // a macro's body is not said here
            defining = !line.starts_with("..");
            continue;
        }
        if (!line.starts_with('.') && !line.starts_with('\'')) {
            append_unescaped(line, out);
            out += '\n';
            continue;
        }
        line.remove_prefix(1);
        while (line.starts_with(' ') || line.starts_with('\t')) line.remove_prefix(1);
        const std::size_t name_end = std::min(line.find_first_of(" \t\\"), line.size());
        const std::string_view macro = line.substr(0, name_end);
        if (macro == "de" || macro == "am" || macro == "ig") defining = true;
        if (macro.empty() || macro == "ig" || macro == "tr" || macro == "rm" || has(silent, macro)) {
            if (macro == "PP" || macro == "P" || macro == "sp" || macro == "br") out += '\n';
            continue;
        }
        std::vector<std::string> arguments = arguments_of(line.substr(name_end));
        // The second one of these is how far to indent.
        if ((macro == "IP" || macro == "TP" || macro == "HP") && !arguments.empty())
            arguments.resize(macro == "IP" ? 1 : 0);
        if (mdoc) std::erase_if(arguments, [](const std::string& one) { return has(callable, one); });
        for (std::size_t i = 0; i < arguments.size(); ++i) {
            if (i > 0 && !has(joined, macro)) out += ' ';
            append_unescaped(arguments[i], out);
        }
        out += '\n';
    }
    return out;
}

}  // namespace retort::screen
