// safetensors: named tensors behind a JSON header, in one file or several with an index. The format is
// docs/formats/safetensors.md. Knows nothing of what the tensors mean.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "tensor/dtype.h"

namespace retort::formats {

struct SafetensorsTensor {
    std::string name;
    std::string dtype_name;              // "BF16", "I64"
    std::optional<tensor::DType> dtype;  // the three that weights come in: F32, F16, BF16
    std::vector<std::int64_t> shape;
    std::span<const std::byte> data;  // in the order of the file; unaligned
};

class SafetensorsFile {
  public:
    static Result<SafetensorsFile> open(const std::filesystem::path& path);
    // The same over bytes that the caller keeps alive.
    static Result<SafetensorsFile> parse(std::span<const std::byte> bytes, std::string name);

    [[nodiscard]] const std::string& name() const { return name_; }
    [[nodiscard]] const std::vector<SafetensorsTensor>& tensors() const { return tensors_; }
    [[nodiscard]] const SafetensorsTensor* find(std::string_view tensor_name) const;
    [[nodiscard]] const std::map<std::string, std::string>& metadata() const { return metadata_; }
    [[nodiscard]] std::shared_ptr<const void> owner() const { return mapping_; }

  private:
    SafetensorsFile() = default;
    Status read(std::span<const std::byte> bytes);

    std::string name_;
    std::shared_ptr<const base::MappedFile> mapping_;
    std::vector<SafetensorsTensor> tensors_;  // sorted by name
    std::map<std::string, std::string> metadata_;
};

// The files of a model: one file; or those that an index (model.safetensors.index.json) names, each tensor in
// the file that the index says. A folder is looked into for either.
Result<std::vector<SafetensorsFile>> open_safetensors(const std::filesystem::path& path);

}  // namespace retort::formats
