#include "guard/follower_checkpoint.h"

#include <cstring>

namespace retort::guard {

namespace {

constexpr std::string_view magic = "RFOLLOW1\n";

void put(std::string& out, std::uint64_t value) {
    for (int i = 0; i < 8; ++i) out += static_cast<char>(value >> (8 * i));
}

void put(std::string& out, std::string_view text) {
    put(out, static_cast<std::uint64_t>(text.size()));
    out += text;
}

// Little-endian numbers and texts; `failed` once something is missing.
struct Fields {
    std::string_view rest;
    bool failed = false;
    std::uint64_t number() {
        if (rest.size() < 8) {
            failed = true;
            return 0;
        }
        std::uint64_t value = 0;
        for (std::size_t i = 0; i < 8; ++i)
            value |= static_cast<std::uint64_t>(static_cast<std::uint8_t>(rest[i])) << (8 * i);
        rest.remove_prefix(8);
        return value;
    }
    std::string_view text() {
        const std::uint64_t size = number();
        if (failed || size > rest.size()) {
            failed = true;
            return {};
        }
        const std::string_view out = rest.substr(0, size);
        rest.remove_prefix(size);
        return out;
    }
};

bool is_file_name(std::string_view name) {
    return !name.empty() && name.find('/') == std::string_view::npos;
}

}  // namespace

std::string write_checkpoint(const FollowerCheckpoint& checkpoint) {
    std::string out(magic);
    put(out, checkpoint.number);
    put(out, checkpoint.places.size());
    for (const auto& [name, place] : checkpoint.places) {
        put(out, std::string_view(name));
        put(out, place);
    }
    put(out, checkpoint.allowed.size());
    for (const store::ShortHash& id : checkpoint.allowed)
        put(out, std::string_view(reinterpret_cast<const char*>(id.data()), id.size()));
    put(out, std::string_view(checkpoint.state));
    return out;
}

Result<FollowerCheckpoint> read_checkpoint(std::string_view bytes) {
    if (!bytes.starts_with(magic))
        return fail(ErrorCode::format, "not a checkpoint of this version; remove it to begin anew");
    Fields fields{bytes.substr(magic.size())};
    FollowerCheckpoint out;
    out.number = fields.number();
    const std::uint64_t files = fields.number();
    for (std::uint64_t i = 0; i < files && !fields.failed; ++i) {
        const std::string name(fields.text());
        fields.failed = fields.failed || !is_file_name(name);
        out.places[name] = fields.number();
    }
    const std::uint64_t allowed = fields.number();
    for (std::uint64_t i = 0; i < allowed && !fields.failed; ++i) {
        const std::string_view id = fields.text();
        store::ShortHash hash{};
        if (id.size() != hash.size()) fields.failed = true;
        if (!fields.failed) std::memcpy(hash.data(), id.data(), hash.size());
        out.allowed.insert(hash);
    }
    out.state = fields.text();
    if (fields.failed || !fields.rest.empty())
        return fail(ErrorCode::format, "a damaged checkpoint; remove it to begin anew");
    return out;
}

std::string write_part(const ReadPart& part) {
    std::string out;
    put(out, std::string_view(part.file));
    put(out, part.from);
    put(out, part.to);
    return out;
}

Result<ReadPart> read_part(std::string_view frame) {
    Fields fields{frame};
    ReadPart out;
    out.file = fields.text();
    out.from = fields.number();
    out.to = fields.number();
    if (fields.failed || !fields.rest.empty() || out.from > out.to || !is_file_name(out.file))
        return fail(ErrorCode::format, "a frame that names no part of a file");
    return out;
}

}  // namespace retort::guard
