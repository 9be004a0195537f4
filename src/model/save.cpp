#include "model/save.h"

#include <map>

#include "base/file.h"
#include "base/interrupt.h"
#include "formats/json.h"
#include "formats/safetensors_writer.h"
#include "model/save_checks.h"
#include "tensor/quantised.h"

namespace retort::model {

namespace {

namespace fs = std::filesystem;
using formats::TensorDescription;

// Converted and handed on some rows at a time, so that memory stays small beside the model.
Status write_converted(formats::SafetensorsWriter& writer, const NamedTensor& tensor, tensor::DType dtype) {
    constexpr std::size_t piece = std::size_t{1} << 20U;
    std::vector<std::byte> converted;
    for (std::size_t at = 0; at < tensor.values.size(); at += piece) {
        const auto values = tensor.values.subspan(at, std::min(piece, tensor.values.size() - at));
        const auto count = static_cast<std::int64_t>(values.size());
        converted.resize(static_cast<std::size_t>(tensor::dtype_bytes(dtype, count)));
        if (auto status = tensor::quantise(dtype, values.data(), converted.data(), count); !status) {
            return fail_from(std::move(status.error()), tensor.name);
        }
        RETORT_CHECK(writer.append(converted));
    }
    return {};
}

TensorDescription describe(const NamedTensor& tensor, tensor::DType dtype) {
    return {tensor.name, dtype, tensor.shape};
}

// Tensors in order, a new group where the next would pass the limit.
std::vector<std::vector<const NamedTensor*>> split_into_shards(const std::vector<const NamedTensor*>& tensors,
                                                               tensor::DType dtype, std::uint64_t limit) {
    std::vector<std::vector<const NamedTensor*>> shards(1);
    std::uint64_t size = 0;
    for (const NamedTensor* tensor : tensors) {
        const std::uint64_t bytes = describe(*tensor, dtype).bytes();
        if (!shards.back().empty() && size + bytes > limit) {
            shards.emplace_back();
            size = 0;
        }
        shards.back().push_back(tensor);
        size += bytes;
    }
    return shards;
}

Status write_shard(const fs::path& path, const std::vector<const NamedTensor*>& tensors,
                   tensor::DType dtype) {
    std::vector<TensorDescription> descriptions;
    descriptions.reserve(tensors.size());
    for (const NamedTensor* tensor : tensors) descriptions.push_back(describe(*tensor, dtype));
    RETORT_TRY(auto writer, formats::SafetensorsWriter::create(path, descriptions));
    for (const NamedTensor* tensor : tensors) {
        if (base::interrupted())
            return fail(ErrorCode::cancelled, "{}: interrupted; nothing was written", path.string());
        if (auto status = write_converted(writer, *tensor, dtype); !status) {
            return fail_from(std::move(status.error()), path.string());
        }
    }
    return writer.commit();
}

void remove_if_there(const fs::path& path) {
    std::error_code code;
    fs::remove(path, code);
}

}  // namespace

Status save_safetensors_folder(const fs::path& folder, const ModelConfig& config,
                               std::span<const NamedTensor> tensors, const FolderOptions& options) {
    RETORT_CHECK(validate(config));
    if (!config.rope.factors.empty()) {
        return fail(
            ErrorCode::unsupported,
            "{}: the model's rope frequency factors follow from no scaling that config.json has; write GGUF",
            folder.string());
    }
    std::string_view torch_dtype;
    switch (options.dtype) {
        case tensor::DType::f32:
            torch_dtype = "float32";
            break;
        case tensor::DType::f16:
            torch_dtype = "float16";
            break;
        case tensor::DType::bf16:
            torch_dtype = "bfloat16";
            break;
        default:
            return fail(ErrorCode::unsupported, "{}: a Hugging Face folder holds f32, f16 or bf16, not {}",
                        folder.string(), tensor::dtype_info(options.dtype).name);
    }
    RETORT_TRY(const auto written, tensors_to_write(config, tensors));
    RETORT_CHECK(base::make_folders(folder));

    const fs::path single = folder / "model.safetensors";
    const fs::path index_path = folder / "model.safetensors.index.json";
    const auto shards = split_into_shards(written, options.dtype, options.shard_bytes);
    if (shards.size() == 1) {
        RETORT_CHECK(write_shard(single, shards.front(), options.dtype));
        remove_if_there(index_path);  // of an earlier, larger model
    } else {
        std::uint64_t total = 0;
        formats::Json weight_map = formats::Json::object();
        for (std::size_t i = 0; i < shards.size(); ++i) {
            const std::string name = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
            RETORT_CHECK(write_shard(folder / name, shards[i], options.dtype));
            for (const NamedTensor* tensor : shards[i]) {
                weight_map[tensor->name] = name;
                total += describe(*tensor, options.dtype).bytes();
            }
        }
        const formats::Json index = {{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}};
        RETORT_CHECK(base::write_file_atomic(index_path, formats::write_json(index, 2) + "\n"));
        remove_if_there(single);
    }
    return base::write_file_atomic(folder / "config.json", config_to_json(config, torch_dtype));
}

std::vector<NamedTensor> named_tensors(const Parameters& parameters) {
    std::vector<NamedTensor> tensors;
    for (const ParameterTensor& tensor : parameters.layout.tensors) {
        tensors.push_back(
            {tensor.name, tensor.shape,
             std::span(parameters.values.data() + tensor.offset, static_cast<std::size_t>(tensor.count))});
    }
    return tensors;
}

}  // namespace retort::model
