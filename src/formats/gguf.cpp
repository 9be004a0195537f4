#include "formats/gguf.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>

namespace retort::formats {

static_assert(std::endian::native == std::endian::little,
              "views of little-endian files are used as they lie");

namespace {

constexpr std::uint32_t magic = 0x46554747;  // "GGUF"
constexpr std::uint32_t default_alignment = 32;
constexpr std::uint32_t largest_alignment = 1U << 20U;
constexpr int deepest_array = 4;
constexpr std::uint32_t most_dimensions = 4;
// The fewest bytes that an entry can take: what bounds a count by the length of the file.
constexpr std::uint64_t least_metadata_bytes = 8 + 4 + 1;
constexpr std::uint64_t least_tensor_bytes = 8 + 4 + 8 + 4 + 8;

struct TensorTypeName {
    std::uint32_t number;
    std::string_view name;
    std::optional<tensor::DType> dtype;
};

// The numbers 4 and 5, and 31 to 33, named types that the format has dropped.
constexpr std::array<TensorTypeName, 34> tensor_types = {{
    {0, "F32", tensor::DType::f32},
    {1, "F16", tensor::DType::f16},
    {2, "Q4_0", tensor::DType::q4_0},
    {3, "Q4_1", tensor::DType::q4_1},
    {6, "Q5_0", tensor::DType::q5_0},
    {7, "Q5_1", tensor::DType::q5_1},
    {8, "Q8_0", tensor::DType::q8_0},
    {9, "Q8_1", {}},
    {10, "Q2_K", tensor::DType::q2_k},
    {11, "Q3_K", tensor::DType::q3_k},
    {12, "Q4_K", tensor::DType::q4_k},
    {13, "Q5_K", tensor::DType::q5_k},
    {14, "Q6_K", tensor::DType::q6_k},
    {15, "Q8_K", {}},
    {16, "IQ2_XXS", {}},
    {17, "IQ2_XS", {}},
    {18, "IQ3_XXS", {}},
    {19, "IQ1_S", {}},
    {20, "IQ4_NL", {}},
    {21, "IQ3_S", {}},
    {22, "IQ2_S", {}},
    {23, "IQ4_XS", {}},
    {24, "I8", {}},
    {25, "I16", {}},
    {26, "I32", {}},
    {27, "I64", {}},
    {28, "F64", {}},
    {29, "IQ1_M", {}},
    {30, "BF16", tensor::DType::bf16},
    {34, "TQ1_0", {}},
    {35, "TQ2_0", {}},
    {39, "MXFP4", {}},
    {40, "NVFP4", {}},
    {41, "Q1_0", {}},
}};

const TensorTypeName* find_tensor_type(std::uint32_t number) {
    const auto* found = std::find_if(tensor_types.begin(), tensor_types.end(),
                                     [&](const auto& t) { return t.number == number; });
    return found == tensor_types.end() ? nullptr : found;
}

// Zero for strings and arrays, whose elements have no fixed size.
std::uint64_t fixed_size(GgufType type) {
    switch (type) {
        case GgufType::u8:
        case GgufType::i8:
        case GgufType::boolean:
            return 1;
        case GgufType::u16:
        case GgufType::i16:
            return 2;
        case GgufType::u32:
        case GgufType::i32:
        case GgufType::f32:
            return 4;
        case GgufType::u64:
        case GgufType::i64:
        case GgufType::f64:
            return 8;
        case GgufType::string:
        case GgufType::array:
            return 0;
    }
    return 0;
}

template <typename T>
T load(const std::byte* from) {
    T value{};
    std::memcpy(&value, from, sizeof value);
    return value;
}

// Reads fields in order; every read is checked against what is left.
class Cursor {
  public:
    explicit Cursor(std::span<const std::byte> bytes) : bytes_(bytes) {}

    [[nodiscard]] std::uint64_t offset() const { return offset_; }
    [[nodiscard]] std::uint64_t left() const { return bytes_.size() - offset_; }

    Result<std::span<const std::byte>> take(std::uint64_t size) {
        if (size > left()) {
            return fail(ErrorCode::format, "cut short: {} bytes wanted at offset {}, {} left", size, offset_,
                        left());
        }
        const auto taken = bytes_.subspan(offset_, size);
        offset_ += size;
        return taken;
    }

    template <typename T>
    Result<T> number() {
        RETORT_TRY(const auto bytes, take(sizeof(T)));
        return load<T>(bytes.data());
    }

    Result<std::string_view> string() {
        RETORT_TRY(const auto length, number<std::uint64_t>());
        RETORT_TRY(const auto bytes, take(length));
        return std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    }

    Result<GgufType> type() {
        RETORT_TRY(const auto value, number<std::uint32_t>());
        if (value > static_cast<std::uint32_t>(GgufType::f64)) {
            return fail(ErrorCode::format, "no metadata type has the number {} (at offset {})", value,
                        offset_ - 4);
        }
        return static_cast<GgufType>(value);
    }

  private:
    std::span<const std::byte> bytes_;
    std::uint64_t offset_ = 0;
};

Result<GgufArray> read_array(Cursor& cursor, int depth);

Result<GgufValue> read_value(Cursor& cursor, GgufType type, int depth) {
    GgufValue result;
    result.type = type;
    switch (type) {
        case GgufType::string: {
            RETORT_TRY(const auto text, cursor.string());
            result.value = std::string(text);
            return result;
        }
        case GgufType::array: {
            RETORT_TRY(auto array, read_array(cursor, depth));
            result.value = std::move(array);
            return result;
        }
        default:
            break;
    }
    RETORT_TRY(const auto bytes, cursor.take(fixed_size(type)));
    const std::byte* from = bytes.data();
    switch (type) {
        case GgufType::u8:
            result.value = std::uint64_t{load<std::uint8_t>(from)};
            break;
        case GgufType::u16:
            result.value = std::uint64_t{load<std::uint16_t>(from)};
            break;
        case GgufType::u32:
            result.value = std::uint64_t{load<std::uint32_t>(from)};
            break;
        case GgufType::u64:
            result.value = load<std::uint64_t>(from);
            break;
        case GgufType::i8:
            result.value = std::int64_t{load<std::int8_t>(from)};
            break;
        case GgufType::i16:
            result.value = std::int64_t{load<std::int16_t>(from)};
            break;
        case GgufType::i32:
            result.value = std::int64_t{load<std::int32_t>(from)};
            break;
        case GgufType::i64:
            result.value = load<std::int64_t>(from);
            break;
        case GgufType::f32:
            result.value = static_cast<double>(load<float>(from));
            break;
        case GgufType::f64:
            result.value = load<double>(from);
            break;
        default: {
            const auto truth = load<std::uint8_t>(from);
            if (truth > 1) return fail(ErrorCode::format, "a boolean is {}, neither 0 nor 1", truth);
            result.value = truth == 1;
        }
    }
    return result;
}

Result<GgufArray> read_array(Cursor& cursor, int depth) {
    if (depth >= deepest_array) return fail(ErrorCode::format, "arrays nested deeper than {}", deepest_array);
    GgufArray array;
    RETORT_TRY(array.element, cursor.type());
    RETORT_TRY(array.count, cursor.number<std::uint64_t>());
    const std::uint64_t size = fixed_size(array.element);
    const std::uint64_t least = size > 0 ? size : (array.element == GgufType::string ? 8 : 12);
    if (array.count > cursor.left() / least) {
        return fail(ErrorCode::format,
                    "an array claims {} elements of {} at offset {}, where {} bytes are left", array.count,
                    gguf_type_name(array.element), cursor.offset(), cursor.left());
    }
    if (size > 0) {
        RETORT_TRY(array.bytes, cursor.take(array.count * size));
    } else if (array.element == GgufType::string) {
        array.strings.reserve(array.count);
        for (std::uint64_t i = 0; i < array.count; ++i) {
            RETORT_TRY(const auto text, cursor.string());
            array.strings.push_back(text);
        }
    } else {
        for (std::uint64_t i = 0; i < array.count; ++i) {
            RETORT_TRY(auto nested, read_array(cursor, depth + 1));
            array.arrays.push_back({GgufType::array, std::move(nested)});
        }
    }
    return array;
}

struct TensorInfo {
    GgufTensor tensor;
    std::uint64_t offset = 0;
    std::uint64_t bytes = 0;
};

Result<TensorInfo> read_tensor_info(Cursor& cursor) {
    TensorInfo info;
    RETORT_TRY(info.tensor.name, cursor.string());
    const std::string_view name = info.tensor.name;
    RETORT_TRY(const auto dimensions, cursor.number<std::uint32_t>());
    if (dimensions == 0 || dimensions > most_dimensions) {
        return fail(ErrorCode::format, "tensor {} has {} dimensions; 1 to {} are possible", name, dimensions,
                    most_dimensions);
    }
    // Half of what an int64 holds, so that bytes of any type (at most 4 an element) cannot overflow below.
    constexpr std::uint64_t most_elements = std::uint64_t{1} << 58U;
    std::uint64_t elements = 1;
    for (std::uint32_t i = 0; i < dimensions; ++i) {
        RETORT_TRY(const auto size, cursor.number<std::uint64_t>());
        if (size == 0 || size > most_elements / elements) {
            return fail(ErrorCode::format, "tensor {} has a dimension of {}", name, size);
        }
        elements *= size;
        info.tensor.shape.insert(info.tensor.shape.begin(), static_cast<std::int64_t>(size));
    }
    RETORT_TRY(const auto type, cursor.number<std::uint32_t>());
    const TensorTypeName* known = find_tensor_type(type);
    if (known == nullptr || !known->dtype) {
        return fail(
            ErrorCode::unsupported,
            "tensor {} is stored as {}, which is not read; use a file in F32, F16, BF16, Q8_0, Q4_0, Q4_1, "
            "Q5_0, Q5_1 or Q2_K to Q6_K",
            name, known == nullptr ? fmt::format("type {}", type) : std::string(known->name));
    }
    info.tensor.dtype = *known->dtype;
    const tensor::DTypeInfo& dtype = tensor::dtype_info(info.tensor.dtype);
    const std::int64_t row = info.tensor.shape.back();
    if (row % dtype.block_elements != 0) {
        return fail(ErrorCode::format,
                    "tensor {} has rows of {} elements, no multiple of the {} of a {} block", name, row,
                    dtype.block_elements, known->name);
    }
    info.bytes = static_cast<std::uint64_t>(
        tensor::dtype_bytes(info.tensor.dtype, static_cast<std::int64_t>(elements)));
    RETORT_TRY(info.offset, cursor.number<std::uint64_t>());
    return info;
}

Status check_no_overlap(const std::vector<TensorInfo>& infos) {
    std::vector<const TensorInfo*> order;
    order.reserve(infos.size());
    for (const TensorInfo& info : infos) order.push_back(&info);
    std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) { return a->offset < b->offset; });
    for (std::size_t i = 1; i < order.size(); ++i) {
        if (order[i - 1]->offset + order[i - 1]->bytes > order[i]->offset) {
            return fail(ErrorCode::format, "tensors {} and {} overlap", order[i - 1]->tensor.name,
                        order[i]->tensor.name);
        }
    }
    return {};
}

}  // namespace

std::string_view gguf_type_name(GgufType type) {
    constexpr std::array<std::string_view, 13> names = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                                        "bool", "string", "array", "u64", "i64", "f64"};
    return names[static_cast<std::size_t>(type)];
}

std::uint32_t gguf_tensor_type(tensor::DType dtype) {
    const auto* found = std::find_if(tensor_types.begin(), tensor_types.end(),
                                     [&](const auto& t) { return t.dtype == dtype; });
    return found->number;
}

std::int64_t GgufTensor::elements() const {
    std::int64_t product = 1;
    for (const std::int64_t size : shape) product *= size;
    return product;
}

Result<GgufFile> GgufFile::open(const std::filesystem::path& path) {
    RETORT_TRY(auto mapped, base::MappedFile::open(path));
    GgufFile file;
    file.name_ = path.string();
    auto mapping = std::make_shared<const base::MappedFile>(std::move(mapped));
    if (auto status = file.read(mapping->bytes()); !status)
        return fail_from(std::move(status.error()), file.name_);
    file.mapping_ = std::move(mapping);
    return file;
}

Result<GgufFile> GgufFile::parse(std::span<const std::byte> bytes, std::string name) {
    GgufFile file;
    file.name_ = std::move(name);
    if (auto status = file.read(bytes); !status) return fail_from(std::move(status.error()), file.name_);
    return file;
}

Status GgufFile::read(std::span<const std::byte> bytes) {
    Cursor cursor(bytes);
    if (bytes.size() < 4 || load<std::uint32_t>(bytes.data()) != magic) {
        return fail(ErrorCode::format, "not a GGUF file: it does not begin with the letters GGUF");
    }
    RETORT_CHECK(cursor.take(4));
    RETORT_TRY(version_, cursor.number<std::uint32_t>());
    if ((version_ & 0xffffU) == 0) {
        return fail(ErrorCode::unsupported, "a big-endian GGUF file; convert it to little-endian");
    }
    if (version_ != 2 && version_ != 3) {
        return fail(ErrorCode::unsupported, "GGUF version {}; versions 2 and 3 are read", version_);
    }
    RETORT_TRY(const auto tensor_count, cursor.number<std::uint64_t>());
    RETORT_TRY(const auto metadata_count, cursor.number<std::uint64_t>());
    if (metadata_count > cursor.left() / least_metadata_bytes ||
        tensor_count > cursor.left() / least_tensor_bytes) {
        return fail(ErrorCode::format, "claims {} metadata entries and {} tensors in {} bytes",
                    metadata_count, tensor_count, bytes.size());
    }

    std::uint64_t alignment = default_alignment;
    for (std::uint64_t i = 0; i < metadata_count; ++i) {
        RETORT_TRY(const auto key, cursor.string());
        RETORT_TRY(const auto type, cursor.type());
        auto value = read_value(cursor, type, 0);
        if (!value) return fail_from(std::move(value.error()), fmt::format("metadata key {}", key));
        // The index's keys are views of the file, which outlive any growth of metadata_.
        if (!key_index_.emplace(key, metadata_.size()).second) {
            return fail(ErrorCode::format, "metadata key {} stands twice", key);
        }
        metadata_.emplace_back(std::string(key), std::move(*value));
    }
    if (const GgufValue* stated = find("general.alignment")) {
        const auto* number = std::get_if<std::uint64_t>(&stated->value);
        if (number == nullptr || !std::has_single_bit(*number) || *number > largest_alignment) {
            return fail(ErrorCode::format, "general.alignment is no power of two up to {}",
                        largest_alignment);
        }
        alignment = *number;
    }

    std::vector<TensorInfo> infos;
    for (std::uint64_t i = 0; i < tensor_count; ++i) {
        RETORT_TRY(auto info, read_tensor_info(cursor));
        infos.push_back(std::move(info));
    }
    const std::uint64_t data_start = (cursor.offset() + alignment - 1) / alignment * alignment;
    const std::uint64_t data_size = data_start > bytes.size() ? 0 : bytes.size() - data_start;
    tensors_.reserve(infos.size());
    for (TensorInfo& info : infos) {
        const std::string_view tensor_name = info.tensor.name;
        if (info.offset % alignment != 0) {
            return fail(ErrorCode::format, "tensor {} lies at {}, no multiple of the alignment {}",
                        tensor_name, info.offset, alignment);
        }
        if (info.offset > data_size || info.bytes > data_size - info.offset) {
            return fail(
                ErrorCode::format,
                "tensor {} ends past the file ({} bytes at {} of {} bytes of data): the file is cut short; "
                "fetch it again",
                tensor_name, info.bytes, info.offset, data_size);
        }
        if (!tensor_index_.emplace(tensor_name, tensors_.size()).second) {
            return fail(ErrorCode::format, "tensor {} stands twice", tensor_name);
        }
        info.tensor.data = bytes.subspan(data_start + info.offset, info.bytes);
        tensors_.push_back(info.tensor);
    }
    return check_no_overlap(infos);
}

const GgufValue* GgufFile::find(std::string_view key) const {
    const auto found = key_index_.find(key);
    return found == key_index_.end() ? nullptr : &metadata_[found->second].second;
}

const GgufTensor* GgufFile::find_tensor(std::string_view tensor_name) const {
    const auto found = tensor_index_.find(tensor_name);
    return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

}  // namespace retort::formats
