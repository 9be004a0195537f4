// JSON Lines: a record a line. Errors name the file and the line.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include "base/file.h"
#include "base/result.h"
#include "formats/json.h"

namespace retort::formats {

// Calls on_record for each line that is not blank, in order; lines count from 1. An error that it returns
// gets "file:line: " in front and ends the reading.
using JsonlCallback = std::function<Status(std::uint64_t line, Json& record)>;
Status read_jsonl(const std::filesystem::path& path, const JsonlCallback& on_record);
Status parse_jsonl(std::string_view text, std::string_view name, const JsonlCallback& on_record);

// All or nothing: the file appears at commit().
class JsonlWriter {
  public:
    static Result<JsonlWriter> create(const std::filesystem::path& path);
    Status write(const Json& record);
    Status commit() { return file_.commit(); }

  private:
    explicit JsonlWriter(base::AtomicFile file) : file_(std::move(file)) {}
    base::AtomicFile file_;
};

}  // namespace retort::formats
