#include "train/event_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <cstring>

#include "base/clock.h"
#include "base/file.h"

namespace retort::train {

namespace {

constexpr std::array<std::uint32_t, 256> make_table() {
    std::array<std::uint32_t, 256> table{};
    for (std::uint32_t i = 0; i < table.size(); ++i) {
        std::uint32_t value = i;
        for (int bit = 0; bit < 8; ++bit) value = (value >> 1U) ^ ((value & 1U) != 0 ? 0x82f63b78U : 0U);
        table[i] = value;
    }
    return table;
}
constexpr std::array<std::uint32_t, 256> table = make_table();

template <typename T>
void put_raw(std::string& out, T value) {
    static_assert(std::endian::native == std::endian::little);
    char bytes[sizeof(value)];
    std::memcpy(bytes, &value, sizeof(value));
    out.append(bytes, sizeof(value));
}

// Protocol Buffers' wire format: a key is field << 3 | type, with type 0 a varint, 1 eight bytes, 2 a length
// and bytes, 5 four bytes.
void put_varint(std::string& out, std::uint64_t value) {
    for (; value >= 0x80; value >>= 7U) out.push_back(static_cast<char>(value | 0x80U));
    out.push_back(static_cast<char>(value));
}
void put_double(std::string& out, std::uint32_t field, double value) {
    put_varint(out, field << 3U | 1U);
    put_raw(out, value);
}
void put_float(std::string& out, std::uint32_t field, double value) {
    put_varint(out, field << 3U | 5U);
    put_raw(out, static_cast<float>(value));
}
void put_bytes(std::string& out, std::uint32_t field, std::string_view bytes) {
    put_varint(out, field << 3U | 2U);
    put_varint(out, bytes.size());
    out += bytes;
}

std::uint32_t masked_crc(std::string_view bytes) {
    return std::rotr(crc32c(bytes), 15) + 0xa282ead8U;
}

std::string frame(std::string_view event) {
    std::string out;
    put_raw(out, static_cast<std::uint64_t>(event.size()));
    put_raw(out, masked_crc(out));
    out += event;
    put_raw(out, masked_crc(event));
    return out;
}

double unix_seconds() {
    return static_cast<double>(base::unix_milliseconds()) / 1000;
}

std::string step_frame(const StepRecord& record, double wall_time) {
    return scalars_frame(wall_time, record.step, step_scalars(record));
}

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
    std::uint32_t value = 0xffffffffU;
    for (const char byte : bytes)
        value = table[(value ^ static_cast<unsigned char>(byte)) & 0xffU] ^ (value >> 8U);
    return ~value;
}

std::string version_frame(double wall_time) {
    std::string event;
    put_double(event, 1, wall_time);
    put_bytes(event, 3, "brain.Event:2");
    return frame(event);
}

std::string scalars_frame(double wall_time, std::int64_t step, std::span<const Scalar> scalars) {
    std::string summary;
    for (const auto& [tag, number] : scalars) {
        std::string value;
        put_bytes(value, 1, tag);
        put_float(value, 2, number);
        put_bytes(summary, 1, value);
    }
    std::string event;
    put_double(event, 1, wall_time);
    put_varint(event, 2U << 3U);
    put_varint(event, static_cast<std::uint64_t>(step));
    put_bytes(event, 5, summary);
    return frame(event);
}

std::vector<Scalar> step_scalars(const StepRecord& record) {
    std::vector<Scalar> scalars = {{"train/loss", record.loss},
                                   {"train/learning_rate", record.learning_rate},
                                   {"train/gradient_norm", record.gradient_norm}};
    const auto add_if = [&](bool measured, std::string_view tag, double value) {
        if (measured) scalars.emplace_back(tag, value);
    };
    add_if(record.ce != 0, "train/ce", record.ce);
    add_if(record.divergence != 0, "train/divergence", record.divergence);
    add_if(record.agreement != 0, "train/agreement", record.agreement);
    add_if(record.held_out.has_value(), "held_out/loss", record.held_out.value_or(0));
    add_if(record.sampled_tokens > 0, "own_answers/correct", record.correct);
    add_if(record.sampled_tokens > 0, "own_answers/entropy", record.entropy);
    add_if(record.seconds > 0, "speed/tokens_per_second",
           static_cast<double>(record.tokens + record.sampled_tokens) / record.seconds);
    return scalars;
}

Result<EventFile> EventFile::create(const std::filesystem::path& path, std::span<const StepRecord> curve) {
    double left = 0;
    for (const StepRecord& record : curve) left += record.seconds;
    const double now = unix_seconds();
    std::string text = version_frame(now - left);
    for (const StepRecord& record : curve) {
        left -= record.seconds;
        text += step_frame(record, now - left);
    }
    RETORT_CHECK(base::write_file_atomic(path, std::string_view(text)));
    EventFile file;
    file.path_ = path;
    file.descriptor_ = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
    if (file.descriptor_ < 0) return fail(ErrorCode::io, "{}: {}", path.string(), std::strerror(errno));
    return file;
}

EventFile::~EventFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
}

Status EventFile::add(const StepRecord& record) {
    const std::string text = step_frame(record, unix_seconds());
    const ssize_t written = ::write(descriptor_, text.data(), text.size());
    if (written == static_cast<ssize_t>(text.size())) return {};
    return fail(
        ErrorCode::io, "{}: {}", path_.string(),
        written < 0 ? std::strerror(errno) : "only part of a step could be written: is the disk full?");
}

}  // namespace retort::train
