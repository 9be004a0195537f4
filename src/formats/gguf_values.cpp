// Conversions of GGUF metadata values.
#include <cstring>
#include <limits>

#include "formats/gguf.h"

namespace retort::formats {

namespace {

template <typename T>
T element_at(const GgufArray& array, std::uint64_t index) {
    T value{};
    std::memcpy(&value, array.bytes.data() + index * sizeof(T), sizeof value);
    return value;
}

template <typename From, typename To>
void convert_all(const GgufArray& array, std::vector<To>& to) {
    // The plus widens an int8, which as a character type is easily misread.
    for (std::uint64_t i = 0; i < array.count; ++i) to[i] = static_cast<To>(+element_at<From>(array, i));
}

tl::unexpected<base::Error> wrong_element(const GgufArray& array, std::string_view wanted) {
    return fail(ErrorCode::format, "an array of {} where {} are wanted", gguf_type_name(array.element),
                wanted);
}

tl::unexpected<base::Error> absent(const std::string& file, std::string_view key) {
    return fail(ErrorCode::format, "{}: the metadata lack {}", file, key);
}

tl::unexpected<base::Error> wrong_kind(const std::string& file, std::string_view key, const GgufValue& value,
                                       std::string_view wanted) {
    return fail(ErrorCode::format, "{}: metadata key {} is {}, not {}", file, key, gguf_type_name(value.type),
                wanted);
}

template <typename T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
    return std::as_bytes(std::span<const T>(values));
}

template <typename T>
GgufValue owned_numbers(GgufType element, std::vector<T> values) {
    auto kept = std::make_shared<const std::vector<T>>(std::move(values));
    GgufArray array;
    array.element = element;
    array.count = kept->size();
    array.bytes = bytes_of(*kept);
    array.owner = std::move(kept);
    return {GgufType::array, std::move(array)};
}

}  // namespace

GgufValue GgufValue::of_strings(std::vector<std::string> values) {
    auto kept = std::make_shared<const std::vector<std::string>>(std::move(values));
    GgufArray array;
    array.element = GgufType::string;
    array.count = kept->size();
    array.strings.assign(kept->begin(), kept->end());
    array.owner = std::move(kept);
    return {GgufType::array, std::move(array)};
}

GgufValue GgufValue::of_i32s(std::vector<std::int32_t> values) {
    return owned_numbers(GgufType::i32, std::move(values));
}

GgufValue GgufValue::of_f32s(std::vector<float> values) {
    return owned_numbers(GgufType::f32, std::move(values));
}

Result<std::vector<std::int64_t>> GgufArray::integers() const {
    std::vector<std::int64_t> to;
    if (element == GgufType::string || element == GgufType::array || element == GgufType::f32 ||
        element == GgufType::f64) {
        return wrong_element(*this, "integers");
    }
    to.resize(count);
    switch (element) {
        case GgufType::i8:
            convert_all<std::int8_t>(*this, to);
            break;
        case GgufType::u16:
            convert_all<std::uint16_t>(*this, to);
            break;
        case GgufType::i16:
            convert_all<std::int16_t>(*this, to);
            break;
        case GgufType::u32:
            convert_all<std::uint32_t>(*this, to);
            break;
        case GgufType::i32:
            convert_all<std::int32_t>(*this, to);
            break;
        case GgufType::u64:
        case GgufType::i64:
            convert_all<std::int64_t>(*this, to);
            break;
        default:
            convert_all<std::uint8_t>(*this, to);
            break;
    }
    if (element == GgufType::u64) {
        for (const std::int64_t value : to) {
            if (value < 0)
                return fail(ErrorCode::format, "an array's element is beyond a signed 64-bit integer");
        }
    }
    return to;
}

Result<std::vector<double>> GgufArray::numbers() const {
    std::vector<double> to(bytes.empty() ? 0 : count);
    if (element == GgufType::f32) {
        convert_all<float>(*this, to);
        return to;
    }
    if (element == GgufType::f64) {
        convert_all<double>(*this, to);
        return to;
    }
    if (element == GgufType::string || element == GgufType::array) return wrong_element(*this, "numbers");
    RETORT_TRY(const auto whole, integers());
    to.assign(whole.begin(), whole.end());
    return to;
}

Result<std::int64_t> GgufFile::integer(std::string_view key) const {
    const GgufValue* value = find(key);
    if (value == nullptr) return absent(name_, key);
    if (const auto* number = std::get_if<std::int64_t>(&value->value)) return *number;
    if (const auto* number = std::get_if<std::uint64_t>(&value->value)) {
        if (*number > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
            return fail(ErrorCode::format, "{}: metadata key {} is {}, beyond any size", name_, key, *number);
        }
        return static_cast<std::int64_t>(*number);
    }
    return wrong_kind(name_, key, *value, "an integer");
}

Result<double> GgufFile::number(std::string_view key) const {
    const GgufValue* value = find(key);
    if (value == nullptr) return absent(name_, key);
    if (const auto* number = std::get_if<double>(&value->value)) return *number;
    if (const auto* number = std::get_if<std::int64_t>(&value->value)) return static_cast<double>(*number);
    if (const auto* number = std::get_if<std::uint64_t>(&value->value)) return static_cast<double>(*number);
    return wrong_kind(name_, key, *value, "a number");
}

Result<bool> GgufFile::boolean(std::string_view key) const {
    const GgufValue* value = find(key);
    if (value == nullptr) return absent(name_, key);
    if (const auto* truth = std::get_if<bool>(&value->value)) return *truth;
    return wrong_kind(name_, key, *value, "a boolean");
}

Result<std::string> GgufFile::string(std::string_view key) const {
    const GgufValue* value = find(key);
    if (value == nullptr) return absent(name_, key);
    if (const auto* text = std::get_if<std::string>(&value->value)) return *text;
    return wrong_kind(name_, key, *value, "a string");
}

Result<const GgufArray*> GgufFile::array(std::string_view key) const {
    const GgufValue* value = find(key);
    if (value == nullptr) return absent(name_, key);
    if (const auto* elements = std::get_if<GgufArray>(&value->value)) return elements;
    return wrong_kind(name_, key, *value, "an array");
}

Result<std::span<const std::string_view>> GgufFile::strings(std::string_view key) const {
    RETORT_TRY(const GgufArray* elements, array(key));
    if (elements->element != GgufType::string) {
        return fail(ErrorCode::format, "{}: metadata key {} is an array of {}, not of strings", name_, key,
                    gguf_type_name(elements->element));
    }
    return std::span<const std::string_view>(elements->strings);
}

Result<std::int64_t> GgufFile::integer_or(std::string_view key, std::int64_t fallback) const {
    if (find(key) == nullptr) return fallback;
    return integer(key);
}

Result<double> GgufFile::number_or(std::string_view key, double fallback) const {
    if (find(key) == nullptr) return fallback;
    return number(key);
}

Result<bool> GgufFile::boolean_or(std::string_view key, bool fallback) const {
    if (find(key) == nullptr) return fallback;
    return boolean(key);
}

Result<std::string> GgufFile::string_or(std::string_view key, std::string fallback) const {
    if (find(key) == nullptr) return fallback;
    return string(key);
}

}  // namespace retort::formats
