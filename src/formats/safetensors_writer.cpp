#include "formats/safetensors_writer.h"

#include <nlohmann/json.hpp>

namespace retort::formats {

namespace {

std::string_view stored_name(tensor::DType dtype) {
    switch (dtype) {
        case tensor::DType::f32:
            return "F32";
        case tensor::DType::f16:
            return "F16";
        case tensor::DType::bf16:
            return "BF16";
        default:
            return {};
    }
}

}  // namespace

Result<SafetensorsWriter> SafetensorsWriter::create(const std::filesystem::path& path,
                                                    const std::vector<TensorDescription>& tensors,
                                                    const std::map<std::string, std::string>& metadata) {
    nlohmann::ordered_json header;
    if (!metadata.empty()) header["__metadata__"] = metadata;
    std::uint64_t offset = 0;
    for (const TensorDescription& tensor : tensors) {
        const std::string_view type = stored_name(tensor.dtype);
        if (type.empty()) {
            return fail(ErrorCode::unsupported, "{}: safetensors holds f32, f16 and bf16 here, not {}",
                        path.string(), tensor::dtype_info(tensor.dtype).name);
        }
        if (tensor.name == "__metadata__" || header.contains(tensor.name)) {
            return fail(ErrorCode::invalid_argument, "{}: tensor {} stands twice", path.string(),
                        tensor.name);
        }
        header[tensor.name] = {
            {"dtype", type}, {"shape", tensor.shape}, {"data_offsets", {offset, offset + tensor.bytes()}}};
        offset += tensor.bytes();
    }
    std::string text = header.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
    text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the data begin aligned

    RETORT_TRY(auto file, base::AtomicFile::create(path));
    SafetensorsWriter writer(std::move(file));
    const std::uint64_t size = text.size();
    RETORT_CHECK(writer.file_.write(std::as_bytes(std::span(&size, 1))));
    RETORT_CHECK(writer.file_.write(text));
    writer.end_ = writer.file_.size() + offset;
    return writer;
}

Status SafetensorsWriter::append(std::span<const std::byte> bytes) {
    if (bytes.size() > end_ - file_.size()) {
        return fail(ErrorCode::internal, "more bytes than the table of tensors has room for");
    }
    return file_.write(bytes);
}

Status SafetensorsWriter::commit() {
    if (file_.size() != end_) {
        return fail(ErrorCode::internal, "{} bytes of tensors were not written", end_ - file_.size());
    }
    return file_.commit();
}

}  // namespace retort::formats
