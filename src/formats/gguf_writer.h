// Writing a GGUF file: metadata and a table of tensors first, then the tensors' bytes as a stream, all or
// nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "formats/gguf.h"
#include "formats/tensor_description.h"

namespace retort::formats {

class GgufWriter {
  public:
    // general.alignment among the metadata is obeyed. A name that stands twice, or a row that is no multiple
    // of its format's block, is an error.
    static Result<GgufWriter> create(const std::filesystem::path& path, const GgufMetadata& metadata,
                                     std::vector<TensorDescription> tensors);

    // The bytes of the tensors in the order of the table, in pieces of any size within one tensor.
    Status append(std::span<const std::byte> bytes);
    // The file appears; an error when a tensor's bytes are missing.
    Status commit();

  private:
    explicit GgufWriter(base::AtomicFile file) : file_(std::move(file)) {}
    Status pad();

    base::AtomicFile file_;
    std::vector<TensorDescription> tensors_;
    std::uint64_t alignment_ = 32;
    std::size_t current_ = 0;
    std::uint64_t current_written_ = 0;
};

}  // namespace retort::formats
