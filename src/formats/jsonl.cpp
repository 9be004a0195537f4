#include "formats/jsonl.h"

namespace retort::formats {

namespace {

constexpr std::size_t longest_line = std::size_t{64} << 20U;

}  // namespace

Status parse_jsonl(std::string_view text, std::string_view name, const JsonlCallback& on_record) {
    std::uint64_t line_number = 0;
    while (!text.empty()) {
        ++line_number;
        const std::size_t end = text.find('\n');
        const std::string_view line = text.substr(0, end);
        text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
        if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
        const std::string place = fmt::format("{}:{}", name, line_number);
        RETORT_TRY(Json record, parse_json(line, place, {.bytes = longest_line}));
        if (auto status = on_record(line_number, record); !status)
            return fail_from(std::move(status.error()), place);
    }
    return {};
}

Status read_jsonl(const std::filesystem::path& path, const JsonlCallback& on_record) {
    RETORT_TRY(const auto file, base::MappedFile::open(path));
    return parse_jsonl(file.text(), path.string(), on_record);
}

Result<JsonlWriter> JsonlWriter::create(const std::filesystem::path& path) {
    RETORT_TRY(auto file, base::AtomicFile::create(path));
    return JsonlWriter(std::move(file));
}

Status JsonlWriter::write(const Json& record) {
    return file_.write(write_json(record) + "\n");
}

}  // namespace retort::formats
