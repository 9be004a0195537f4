#include "http/headers.h"

#include <algorithm>
#include <cstring>

namespace retort::http {

namespace {

constexpr std::size_t first_text = 512;  // an ordinary request's or answer's
constexpr std::size_t first_fields = 16;

char lower(char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

}  // namespace

bool equal_ignoring_case(std::string_view a, std::string_view b) {
    return a.size() == b.size() &&
           std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) { return lower(x) == lower(y); });
}

// `text` may be a part of what is kept here: the room for it is made by whoever calls.
std::uint32_t Headers::put(std::string_view text) {
    const std::size_t at = text_.size();
    text_.resize(at + text.size());
    if (!text.empty()) std::memcpy(text_.data() + at, text.data(), text.size());
    return static_cast<std::uint32_t>(at);
}

void Headers::add(std::string_view name, std::string_view value) {
    std::vector<char> old;  // what the views may look at
    const std::size_t size = text_.size() + name.size() + value.size();
    if (size > text_.capacity()) {
        std::vector<char> larger;
        larger.reserve(std::max({first_text, size, 2 * text_.capacity()}));
        larger.insert(larger.end(), text_.begin(), text_.end());
        old = std::exchange(text_, std::move(larger));
    }
    if (fields_.empty()) fields_.reserve(first_fields);
    Place place;
    place.name_size = static_cast<std::uint32_t>(name.size());
    place.value_size = static_cast<std::uint32_t>(value.size());
    place.name = put(name);
    place.value = put(value);
    fields_.push_back(place);
}

void Headers::set(std::string_view name, std::string_view value) {
    const auto found = std::find_if(fields_.begin(), fields_.end(), [&](const Place& place) {
        return equal_ignoring_case({text_.data() + place.name, place.name_size}, name);
    });
    if (found == fields_.end()) return add(name, value);
    // Behind the others; the old value's bytes stay unused.
    const std::size_t index = static_cast<std::size_t>(found - fields_.begin());
    add({}, value);
    fields_[index].value = fields_.back().value;
    fields_[index].value_size = fields_.back().value_size;
    fields_.pop_back();
}

std::optional<std::string_view> Headers::find(std::string_view name) const {
    for (const auto& [each, value] : *this) {
        if (equal_ignoring_case(each, name)) return value;
    }
    return std::nullopt;
}

}  // namespace retort::http
