#include "formats/safetensors.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "formats/json.h"

namespace retort::formats {

namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t largest_header = 100'000'000;  // as the reference implementation has it

struct StoredType {
    std::string_view name;
    std::uint64_t bytes;
    std::optional<tensor::DType> dtype;
};

constexpr StoredType stored_types[] = {
    {"F32", 4, tensor::DType::f32},
    {"F16", 2, tensor::DType::f16},
    {"BF16", 2, tensor::DType::bf16},
    {"F64", 8, {}},
    {"I64", 8, {}},
    {"U64", 8, {}},
    {"I32", 4, {}},
    {"U32", 4, {}},
    {"I16", 2, {}},
    {"U16", 2, {}},
    {"I8", 1, {}},
    {"U8", 1, {}},
    {"BOOL", 1, {}},
    {"F8_E4M3", 1, {}},
    {"F8_E5M2", 1, {}},
};

struct Placed {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    std::size_t tensor = 0;
};

bool is_unsigned(const Json& value) {
    return value.is_number_unsigned();
}

Result<SafetensorsTensor> read_entry(const std::string& name, const Json& entry, Placed& placed) {
    SafetensorsTensor tensor;
    tensor.name = name;
    if (!entry.is_object() || entry.size() != 3 || !entry.contains("dtype") || !entry.contains("shape") ||
        !entry.contains("data_offsets")) {
        return fail(ErrorCode::format, "tensor {} is not described by dtype, shape and data_offsets", name);
    }
    RETORT_TRY(tensor.dtype_name, json_string(entry, "dtype"));
    const auto* type = std::find_if(std::begin(stored_types), std::end(stored_types),
                                    [&](const StoredType& known) { return known.name == tensor.dtype_name; });
    if (type == std::end(stored_types)) {
        return fail(ErrorCode::unsupported, "tensor {} is stored as {}, which is not read", name,
                    tensor.dtype_name);
    }
    tensor.dtype = type->dtype;

    const Json& shape = entry["shape"];
    if (!shape.is_array() || !std::all_of(shape.begin(), shape.end(), is_unsigned)) {
        return fail(ErrorCode::format, "tensor {} has a shape that is no list of sizes", name);
    }
    constexpr std::uint64_t most_elements = std::uint64_t{1} << 58U;  // times 8 bytes still fits 64 bits
    std::uint64_t elements = 1;
    for (const Json& dimension : shape) {
        const auto size = dimension.get<std::uint64_t>();
        if (size > most_elements || (size != 0 && elements > most_elements / size)) {
            return fail(ErrorCode::format, "tensor {} has a dimension of {}", name, size);
        }
        elements *= size;
        tensor.shape.push_back(static_cast<std::int64_t>(size));
    }

    const Json& offsets = entry["data_offsets"];
    if (!offsets.is_array() || offsets.size() != 2 || !is_unsigned(offsets[0]) || !is_unsigned(offsets[1])) {
        return fail(ErrorCode::format, "tensor {} has data_offsets that are not two numbers", name);
    }
    placed.begin = offsets[0].get<std::uint64_t>();
    placed.end = offsets[1].get<std::uint64_t>();
    if (placed.end < placed.begin || placed.end - placed.begin != elements * type->bytes) {
        return fail(ErrorCode::format, "tensor {}: {} elements of {} do not lie between {} and {}", name,
                    elements, tensor.dtype_name, placed.begin, placed.end);
    }
    return tensor;
}

// Tensors fill the data without holes or overlaps, as the format demands.
Status check_places(std::vector<Placed>& places, const std::vector<SafetensorsTensor>& tensors,
                    std::uint64_t data_size) {
    std::sort(places.begin(), places.end(), [](const Placed& a, const Placed& b) {
        return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
    });
    std::uint64_t at = 0;
    for (const Placed& placed : places) {
        const std::string& name = tensors[placed.tensor].name;
        if (placed.end > data_size) {
            return fail(ErrorCode::format,
                        "tensor {} ends past the file (at {} of {} bytes of data): the file is cut short; "
                        "fetch it again",
                        name, placed.end, data_size);
        }
        if (placed.begin != at) {
            return fail(ErrorCode::format, "tensor {} begins at {}, where {} is the end of the one before",
                        name, placed.begin, at);
        }
        at = placed.end;
    }
    if (at != data_size) {
        return fail(ErrorCode::format, "{} bytes of data belong to no tensor", data_size - at);
    }
    return {};
}

Result<std::vector<SafetensorsFile>> open_sharded(const fs::path& index_path) {
    RETORT_TRY(const Json index, read_json_file(index_path, {.bytes = largest_header, .depth = 8}));
    const std::string name = index_path.string();
    const Json* weight_map = json_find(index, "weight_map");
    if (weight_map == nullptr || !weight_map->is_object() || weight_map->empty()) {
        return fail(ErrorCode::format, "{}: no weight_map of tensor names to files", name);
    }
    std::set<std::string> shard_names;
    for (const auto& [tensor, shard] : weight_map->items()) {
        if (!shard.is_string()) return fail(ErrorCode::format, "{}: the file of {} is no name", name, tensor);
        const auto file_name = shard.get<std::string>();
        // A name beside the index, never a path out of the folder.
        if (file_name.empty() || file_name.find('/') != std::string::npos ||
            file_name.find('\0') != std::string::npos || file_name == "." || file_name == "..") {
            return fail(ErrorCode::format, "{}: {} is not the name of a file beside it", name, file_name);
        }
        shard_names.insert(file_name);
    }
    std::vector<SafetensorsFile> files;
    std::size_t found = 0;
    for (const std::string& shard_name : shard_names) {
        RETORT_TRY(auto file, SafetensorsFile::open(index_path.parent_path() / shard_name));
        for (const SafetensorsTensor& tensor : file.tensors()) {
            const auto place = weight_map->find(tensor.name);
            if (place == weight_map->end() || *place != shard_name) {
                return fail(ErrorCode::format, "{}: tensor {} is in {}, but not by the index", name,
                            tensor.name, shard_name);
            }
        }
        found += file.tensors().size();
        files.push_back(std::move(file));
    }
    if (found != weight_map->size()) {
        for (const auto& [tensor, shard] : weight_map->items()) {
            const bool there = std::any_of(
                files.begin(), files.end(),
                [&key = tensor](const SafetensorsFile& file) { return file.find(key) != nullptr; });
            if (!there) {
                return fail(ErrorCode::format, "{}: tensor {} is not in {}", name, tensor,
                            shard.get<std::string>());
            }
        }
    }
    return files;
}

}  // namespace

Result<SafetensorsFile> SafetensorsFile::open(const fs::path& path) {
    RETORT_TRY(auto mapped, base::MappedFile::open(path));
    SafetensorsFile file;
    file.name_ = path.string();
    auto mapping = std::make_shared<const base::MappedFile>(std::move(mapped));
    if (auto status = file.read(mapping->bytes()); !status)
        return fail_from(std::move(status.error()), file.name_);
    file.mapping_ = std::move(mapping);
    return file;
}

Result<SafetensorsFile> SafetensorsFile::parse(std::span<const std::byte> bytes, std::string name) {
    SafetensorsFile file;
    file.name_ = std::move(name);
    if (auto status = file.read(bytes); !status) return fail_from(std::move(status.error()), file.name_);
    return file;
}

Status SafetensorsFile::read(std::span<const std::byte> bytes) {
    constexpr std::size_t prefix = 8;
    std::uint64_t header_size = 0;
    if (bytes.size() < prefix) return fail(ErrorCode::format, "no safetensors file: shorter than 8 bytes");
    std::memcpy(&header_size, bytes.data(), prefix);
    if (header_size > largest_header || header_size > bytes.size() - prefix) {
        return fail(ErrorCode::format,
                    "claims a header of {} bytes in a file of {}: not a safetensors file, or cut short",
                    header_size, bytes.size());
    }
    const std::string_view header_text(reinterpret_cast<const char*>(bytes.data()) + prefix, header_size);
    RETORT_TRY(const Json header, parse_json(header_text, "header", {.bytes = largest_header, .depth = 4}));
    if (!header.is_object()) return fail(ErrorCode::format, "the header is no object");
    const auto data = bytes.subspan(prefix + header_size);

    std::vector<Placed> places;
    for (const auto& [key, entry] : header.items()) {  // in the order of the names
        if (key == "__metadata__") {
            if (!entry.is_object()) return fail(ErrorCode::format, "__metadata__ is no object");
            for (const auto& [name, value] : entry.items()) {
                if (!value.is_string()) return fail(ErrorCode::format, "__metadata__ {} is no string", name);
                metadata_[name] = value.get<std::string>();
            }
            continue;
        }
        Placed placed;
        RETORT_TRY(auto tensor, read_entry(key, entry, placed));
        placed.tensor = tensors_.size();
        places.push_back(placed);
        tensors_.push_back(std::move(tensor));
    }
    RETORT_CHECK(check_places(places, tensors_, data.size()));
    for (const Placed& placed : places) {
        tensors_[placed.tensor].data = data.subspan(placed.begin, placed.end - placed.begin);
    }
    return {};
}

const SafetensorsTensor* SafetensorsFile::find(std::string_view tensor_name) const {
    const auto found =
        std::lower_bound(tensors_.begin(), tensors_.end(), tensor_name,
                         [](const SafetensorsTensor& t, std::string_view name) { return t.name < name; });
    return found == tensors_.end() || found->name != tensor_name ? nullptr : &*found;
}

Result<std::vector<SafetensorsFile>> open_safetensors(const fs::path& path) {
    std::error_code code;
    if (fs::is_directory(path, code)) {
        const fs::path single = path / "model.safetensors";
        const fs::path index = path / "model.safetensors.index.json";
        if (fs::exists(single, code)) return open_safetensors(single);
        if (fs::exists(index, code)) return open_sharded(index);
        return fail(ErrorCode::not_found,
                    "{}: neither model.safetensors nor model.safetensors.index.json is in the folder",
                    path.string());
    }
    if (path.extension() == ".json") return open_sharded(path);
    RETORT_TRY(auto file, SafetensorsFile::open(path));
    std::vector<SafetensorsFile> files;
    files.push_back(std::move(file));
    return files;
}

}  // namespace retort::formats
