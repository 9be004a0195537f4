#include "release/personal_data.h"

#include <algorithm>
#include <cctype>

namespace retort::release {

namespace {

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

bool passes_luhn(std::string_view digits) {
    int sum = 0;
    for (std::size_t i = 0; i < digits.size(); ++i) {
        int digit = digits[digits.size() - 1 - i] - '0';
        if (i % 2 == 1) digit = digit * 2 > 9 ? digit * 2 - 9 : digit * 2;
        sum += digit;
    }
    return sum % 10 == 0;
}

// ISO 13616: the first four characters go to the end, letters are 10 to 35, and the whole is 1 modulo 97.
bool is_iban(std::string_view text) {
    if (text.size() < 15 || text.size() > 34) return false;
    int remainder = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[(i + 4) % text.size()];
        const int value = is_digit(c) ? c - '0' : c >= 'A' && c <= 'Z' ? c - 'A' + 10 : -1;
        if (value < 0) return false;
        remainder = (value < 10 ? remainder * 10 + value : remainder * 100 + value) % 97;
    }
    return remainder == 1;
}

}  // namespace

std::vector<std::string> personal_data_in(std::string_view text) {
    std::vector<std::string> found;
    const auto in_name = [](char c) {
        return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '_' || c == '-' ||
               c == '+';
    };
    for (std::size_t at = text.find('@'); at != std::string_view::npos; at = text.find('@', at + 1)) {
        std::size_t begin = at;
        while (begin > 0 && in_name(text[begin - 1])) --begin;
        std::size_t end = at + 1;
        while (end < text.size() && in_name(text[end])) ++end;
        while (end > at + 1 && (text[end - 1] == '.' || text[end - 1] == '-')) --end;
        const std::string_view host = text.substr(at + 1, end - at - 1);
        const std::size_t dot = host.rfind('.');
        if (begin < at && dot != std::string_view::npos && dot > 0 && host.size() - dot > 2) {
            found.emplace_back(text.substr(begin, end - begin));
        }
    }
    // Runs of digits with what may stand between them.
    for (std::size_t at = 0; at < text.size();) {
        const bool starts =
            is_digit(text[at]) || (text[at] == '+' && at + 1 < text.size() && is_digit(text[at + 1]));
        if (!starts || (at > 0 && (std::isalnum(static_cast<unsigned char>(text[at - 1])) != 0 ||
                                   text[at - 1] == '.'))) {
            ++at;
            continue;
        }
        std::string digits;
        std::size_t end = at;
        std::size_t last = at;
        int separators = 0;
        for (; end < text.size(); ++end) {
            const char c = text[end];
            if (is_digit(c)) {
                digits += c;
                last = end + 1;
            } else if (c == ' ' || c == '-' || c == '(' || c == ')' || (c == '+' && end == at)) {
                separators += c == '+' ? 0 : 1;
                if (end > last + 1) break;
            } else {
                break;
            }
        }
        const bool international = text[at] == '+' && digits.size() >= 9 && digits.size() <= 15;
        // "555-867-5309", not a year's span or an amount.
        const bool grouped = digits.size() >= 10 && digits.size() <= 11 && separators >= 2;
        const bool card = digits.size() >= 13 && digits.size() <= 19 && passes_luhn(digits) &&
                          digits.find_first_not_of(digits[0]) != std::string::npos;
        if (international || grouped || card) found.emplace_back(text.substr(at, last - at));
        at = std::max(last, at + 1);
    }
    for (std::size_t at = 0; at + 15 <= text.size(); ++at) {
        const bool begins = at == 0 || std::isalnum(static_cast<unsigned char>(text[at - 1])) == 0;
        if (!begins || text[at] < 'A' || text[at] > 'Z' || text[at + 1] < 'A' || text[at + 1] > 'Z' ||
            !is_digit(text[at + 2]) || !is_digit(text[at + 3])) {
            continue;
        }
        std::string account;
        std::size_t end = at;
        for (; end < text.size() && account.size() <= 34; ++end) {
            if (text[end] == ' ' && end + 1 < text.size() && (account.size() % 4) == 0) continue;
            if (!is_digit(text[end]) && (text[end] < 'A' || text[end] > 'Z')) break;
            account += text[end];
            if (is_iban(account)) {
                found.emplace_back(text.substr(at, end + 1 - at));
                break;
            }
        }
    }
    return found;
}

}  // namespace retort::release
