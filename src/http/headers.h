// Header fields in order, found without regard to case. Shared by client and server; knows no wire format.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace retort::http {

bool equal_ignoring_case(std::string_view a, std::string_view b);

// All names and values lie in one piece of memory: a proxy copies and builds several of these for each
// request, and two strings for each field were most of what it allocated. Views of them last until the next
// change.
class Headers {
  public:
    using Field = std::pair<std::string_view, std::string_view>;

    class Iterator {
      public:
        using iterator_category = std::input_iterator_tag;
        using value_type = Field;
        using difference_type = std::ptrdiff_t;
        using pointer = const Field*;
        using reference = Field;
        Iterator() = default;
        Iterator(const Headers* headers, std::size_t index) : headers_(headers), index_(index) {}
        Field operator*() const { return headers_->field(index_); }
        Iterator& operator++() {
            ++index_;
            return *this;
        }
        Iterator operator++(int) {
            Iterator old = *this;
            ++index_;
            return old;
        }
        friend bool operator==(const Iterator&, const Iterator&) = default;

      private:
        const Headers* headers_ = nullptr;
        std::size_t index_ = 0;
    };

    Headers() = default;
    Headers(std::initializer_list<Field> fields) {
        for (const auto& [name, value] : fields) add(name, value);
    }

    void add(std::string_view name, std::string_view value);
    // Replaces the first of that name.
    void set(std::string_view name, std::string_view value);
    // The first of that name.
    [[nodiscard]] std::optional<std::string_view> find(std::string_view name) const;
    [[nodiscard]] std::string_view get(std::string_view name, std::string_view otherwise = {}) const {
        return find(name).value_or(otherwise);
    }
    [[nodiscard]] Iterator begin() const { return {this, 0}; }
    [[nodiscard]] Iterator end() const { return {this, fields_.size()}; }
    [[nodiscard]] std::size_t size() const { return fields_.size(); }
    [[nodiscard]] bool empty() const { return fields_.empty(); }

  private:
    struct Place {
        std::uint32_t name = 0;
        std::uint32_t name_size = 0;
        std::uint32_t value = 0;
        std::uint32_t value_size = 0;
    };
    [[nodiscard]] Field field(std::size_t index) const {
        const Place& place = fields_[index];
        return {{text_.data() + place.name, place.name_size}, {text_.data() + place.value, place.value_size}};
    }
    std::uint32_t put(std::string_view text);

    std::vector<char> text_;
    std::vector<Place> fields_;
};

}  // namespace retort::http
