#include "formats/gguf_writer.h"

#include <bit>
#include <set>

namespace retort::formats {

namespace {

constexpr std::uint32_t written_version = 3;

template <typename T>
void put(std::string& to, T value) {
    to.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void put_text(std::string& to, std::string_view text) {
    put(to, std::uint64_t{text.size()});
    to.append(text);
}

void put_array(std::string& to, const GgufArray& array) {
    put(to, static_cast<std::uint32_t>(array.element));
    put(to, array.count);
    to.append(reinterpret_cast<const char*>(array.bytes.data()), array.bytes.size());
    for (const std::string_view text : array.strings) put_text(to, text);
    for (const GgufValue& nested : array.arrays) {
        if (const auto* inner = std::get_if<GgufArray>(&nested.value)) put_array(to, *inner);
    }
}

void put_number(std::string& to, GgufType type, std::uint64_t bits) {
    switch (type) {
        case GgufType::u8:
        case GgufType::i8:
            put(to, static_cast<std::uint8_t>(bits));
            break;
        case GgufType::u16:
        case GgufType::i16:
            put(to, static_cast<std::uint16_t>(bits));
            break;
        case GgufType::u32:
        case GgufType::i32:
            put(to, static_cast<std::uint32_t>(bits));
            break;
        default:
            put(to, bits);
            break;
    }
}

void put_value(std::string& to, const GgufValue& value) {
    put(to, static_cast<std::uint32_t>(value.type));
    if (const auto* text = std::get_if<std::string>(&value.value)) {
        put_text(to, *text);
    } else if (const auto* array = std::get_if<GgufArray>(&value.value)) {
        put_array(to, *array);
    } else if (const auto* truth = std::get_if<bool>(&value.value)) {
        put(to, static_cast<std::uint8_t>(*truth ? 1 : 0));
    } else if (const auto* number = std::get_if<double>(&value.value)) {
        if (value.type == GgufType::f32) {
            put(to, static_cast<float>(*number));
        } else {
            put(to, *number);
        }
    } else if (const auto* whole = std::get_if<std::int64_t>(&value.value)) {
        put_number(to, value.type, static_cast<std::uint64_t>(*whole));
    } else {
        put_number(to, value.type, std::get<std::uint64_t>(value.value));
    }
}

std::uint64_t aligned(std::uint64_t offset, std::uint64_t alignment) {
    return (offset + alignment - 1) / alignment * alignment;
}

Status check_tensor(const TensorDescription& tensor, const std::string& path) {
    const bool usable = !tensor.shape.empty() && tensor.shape.size() <= 4;
    for (const std::int64_t size : tensor.shape) {
        if (size < 1)
            return fail(ErrorCode::invalid_argument, "{}: tensor {} has a size of {}", path, tensor.name,
                        size);
    }
    if (!usable) {
        return fail(ErrorCode::invalid_argument, "{}: tensor {} has {} dimensions; GGUF holds 1 to 4", path,
                    tensor.name, tensor.shape.size());
    }
    const tensor::DTypeInfo& info = tensor::dtype_info(tensor.dtype);
    if (tensor.shape.back() % info.block_elements != 0) {
        return fail(ErrorCode::invalid_argument,
                    "{}: tensor {} has rows of {}, no multiple of the {} of a {} block", path, tensor.name,
                    tensor.shape.back(), info.block_elements, info.name);
    }
    return {};
}

}  // namespace

Result<GgufWriter> GgufWriter::create(const std::filesystem::path& path, const GgufMetadata& metadata,
                                      std::vector<TensorDescription> tensors) {
    std::set<std::string_view> names;
    for (const TensorDescription& tensor : tensors) {
        RETORT_CHECK(check_tensor(tensor, path.string()));
        if (!names.insert(tensor.name).second) {
            return fail(ErrorCode::invalid_argument, "{}: tensor {} stands twice", path.string(),
                        tensor.name);
        }
    }
    std::uint64_t alignment = 32;
    std::set<std::string_view> keys;
    for (const auto& [key, value] : metadata) {
        if (!keys.insert(key).second) {
            return fail(ErrorCode::invalid_argument, "{}: metadata key {} stands twice", path.string(), key);
        }
        if (key != "general.alignment") continue;
        const auto* number = std::get_if<std::uint64_t>(&value.value);
        if (number == nullptr || value.type != GgufType::u32 || !std::has_single_bit(*number)) {
            return fail(ErrorCode::invalid_argument, "{}: general.alignment is no power of two as u32",
                        path.string());
        }
        alignment = *number;
    }

    std::string head = "GGUF";
    put(head, written_version);
    put(head, std::uint64_t{tensors.size()});
    put(head, std::uint64_t{metadata.size()});
    for (const auto& [key, value] : metadata) {
        put_text(head, key);
        put_value(head, value);
    }
    std::uint64_t offset = 0;
    for (const TensorDescription& tensor : tensors) {
        put_text(head, tensor.name);
        put(head, static_cast<std::uint32_t>(tensor.shape.size()));
        for (auto size = tensor.shape.rbegin(); size != tensor.shape.rend(); ++size) {
            put(head, static_cast<std::uint64_t>(*size));
        }
        put(head, gguf_tensor_type(tensor.dtype));
        put(head, offset);
        offset = aligned(offset + tensor.bytes(), alignment);
    }

    RETORT_TRY(auto file, base::AtomicFile::create(path));
    GgufWriter writer(std::move(file));
    writer.tensors_ = std::move(tensors);
    writer.alignment_ = alignment;
    RETORT_CHECK(writer.file_.write(head));
    RETORT_CHECK(writer.pad());
    return writer;
}

Status GgufWriter::pad() {
    const std::uint64_t gap = aligned(file_.size(), alignment_) - file_.size();
    return file_.write(std::string(gap, '\0'));
}

Status GgufWriter::append(std::span<const std::byte> bytes) {
    if (bytes.empty()) return {};
    if (current_ == tensors_.size() || bytes.size() > tensors_[current_].bytes() - current_written_) {
        return fail(ErrorCode::internal, "more bytes than the table of tensors has room for");
    }
    RETORT_CHECK(file_.write(bytes));
    current_written_ += bytes.size();
    if (current_written_ < tensors_[current_].bytes()) return {};
    ++current_;
    current_written_ = 0;
    return pad();
}

Status GgufWriter::commit() {
    if (current_ < tensors_.size()) {
        return fail(ErrorCode::internal, "tensor {} was not written whole", tensors_[current_].name);
    }
    return file_.commit();
}

}  // namespace retort::formats
