// Writing a safetensors file: the header first, then the tensors' bytes as a stream, all or nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "formats/tensor_description.h"

namespace retort::formats {

class SafetensorsWriter {
  public:
    // Formats f32, f16 and bf16. `metadata` becomes __metadata__; {"format": "pt"} is what other readers ask
    // for.
    static Result<SafetensorsWriter> create(const std::filesystem::path& path,
                                            const std::vector<TensorDescription>& tensors,
                                            const std::map<std::string, std::string>& metadata = {
                                                {"format", "pt"}});

    // The bytes of the tensors in the order of the table, in pieces of any size.
    Status append(std::span<const std::byte> bytes);
    Status commit();

  private:
    explicit SafetensorsWriter(base::AtomicFile file) : file_(std::move(file)) {}

    base::AtomicFile file_;
    std::uint64_t end_ = 0;  // where the file ends when all is written
};

}  // namespace retort::formats
