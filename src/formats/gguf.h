// GGUF: a model in one file, metadata first, then tensors that can be used where they lie in the mapped file.
// The format is docs/formats/gguf.md. Knows nothing of what the keys and tensors mean to a model.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "tensor/dtype.h"
#include "tensor/matrix.h"

namespace retort::formats {

// The numbers are the format's own.
enum class GgufType : std::uint32_t {
    u8 = 0,
    i8 = 1,
    u16 = 2,
    i16 = 3,
    u32 = 4,
    i32 = 5,
    f32 = 6,
    boolean = 7,
    string = 8,
    array = 9,
    u64 = 10,
    i64 = 11,
    f64 = 12,
};

std::string_view gguf_type_name(GgufType type);

struct GgufValue;

// Elements of one type. Views of the file, or of what `owner` holds.
struct GgufArray {
    GgufType element = GgufType::u8;
    std::uint64_t count = 0;
    std::span<const std::byte> bytes;       // numbers and booleans, little-endian, unaligned
    std::vector<std::string_view> strings;  // when element is string
    std::vector<GgufValue> arrays;          // when element is array
    std::shared_ptr<const void> owner;

    // Numbers and booleans converted; an error names the element type when they are none, or do not fit.
    [[nodiscard]] Result<std::vector<std::int64_t>> integers() const;
    [[nodiscard]] Result<std::vector<double>> numbers() const;
};

struct GgufValue {
    GgufType type = GgufType::u32;
    // u8 u16 u32 u64 → uint64; i8 i16 i32 i64 → int64; f32 f64 → double; boolean; string; array.
    std::variant<std::uint64_t, std::int64_t, double, bool, std::string, GgufArray> value;

    static GgufValue of_u32(std::uint32_t value) { return {GgufType::u32, std::uint64_t{value}}; }
    static GgufValue of_f32(float value) { return {GgufType::f32, static_cast<double>(value)}; }
    static GgufValue of_bool(bool value) { return {GgufType::boolean, value}; }
    static GgufValue of_string(std::string value) { return {GgufType::string, std::move(value)}; }
    static GgufValue of_strings(std::vector<std::string> values);
    static GgufValue of_i32s(std::vector<std::int32_t> values);
    static GgufValue of_f32s(std::vector<float> values);
};

using GgufMetadata = std::vector<std::pair<std::string, GgufValue>>;

struct GgufTensor {
    std::string_view name;
    tensor::DType dtype = tensor::DType::f32;
    std::vector<std::int64_t> shape;  // outermost first: (rows, cols), the reverse of the file's order
    std::span<const std::byte> data;

    [[nodiscard]] std::int64_t elements() const;
};

// The format's number of a tensor's type.
std::uint32_t gguf_tensor_type(tensor::DType dtype);

class GgufFile {
  public:
    static Result<GgufFile> open(const std::filesystem::path& path);
    // The same over bytes that the caller keeps alive; `name` stands in the messages.
    static Result<GgufFile> parse(std::span<const std::byte> bytes, std::string name);

    [[nodiscard]] const std::string& name() const { return name_; }
    [[nodiscard]] std::uint32_t version() const { return version_; }
    [[nodiscard]] const GgufMetadata& metadata() const { return metadata_; }
    [[nodiscard]] const std::vector<GgufTensor>& tensors() const { return tensors_; }
    [[nodiscard]] const GgufValue* find(std::string_view key) const;
    [[nodiscard]] const GgufTensor* find_tensor(std::string_view tensor_name) const;
    // Keeps the mapping alive for views that outlive this object; null after parse().
    [[nodiscard]] std::shared_ptr<const void> owner() const { return mapping_; }

    // The value of a key, converted; an absent key or one of another kind is an error that names file and
    // key.
    [[nodiscard]] Result<std::int64_t> integer(std::string_view key) const;
    [[nodiscard]] Result<double> number(std::string_view key) const;
    [[nodiscard]] Result<bool> boolean(std::string_view key) const;
    [[nodiscard]] Result<std::string> string(std::string_view key) const;
    [[nodiscard]] Result<const GgufArray*> array(std::string_view key) const;
    [[nodiscard]] Result<std::span<const std::string_view>> strings(std::string_view key) const;

    // The same where the key may be absent; of another kind is still an error.
    [[nodiscard]] Result<std::int64_t> integer_or(std::string_view key, std::int64_t fallback) const;
    [[nodiscard]] Result<double> number_or(std::string_view key, double fallback) const;
    [[nodiscard]] Result<bool> boolean_or(std::string_view key, bool fallback) const;
    [[nodiscard]] Result<std::string> string_or(std::string_view key, std::string fallback) const;

  private:
    GgufFile() = default;
    Status read(std::span<const std::byte> bytes);

    std::string name_;
    std::uint32_t version_ = 0;
    std::shared_ptr<const base::MappedFile> mapping_;
    GgufMetadata metadata_;
    std::vector<GgufTensor> tensors_;
    std::unordered_map<std::string_view, std::size_t> key_index_;
    std::unordered_map<std::string_view, std::size_t> tensor_index_;
};

}  // namespace retort::formats
