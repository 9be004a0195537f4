#include "formats/zip.h"

#include <sodium.h>
#include <zip.h>

#include <algorithm>
#include <array>

#include "base/file.h"
#include "base/interrupt.h"

namespace retort::formats {

namespace {

constexpr std::uint64_t most_entries = 1'000'000;
constexpr std::size_t piece_bytes = std::size_t{256} << 10U;
// Deflate cannot expand more than 1032 to 1; a claim beyond that, small members aside, is a lie.
constexpr std::uint64_t most_expansion = 1100;
// Texts shrink to a tenth, weights hardly: a large member beyond this is made to fill a disk.
constexpr std::uint64_t bomb_bytes = std::uint64_t{64} << 20U;
constexpr std::uint64_t bomb_expansion = 200;

Status check_entry(const zip_stat_t& stat, const std::string& archive) {
    if ((stat.valid & ZIP_STAT_ENCRYPTION_METHOD) != 0 && stat.encryption_method != ZIP_EM_NONE) {
        return fail(ErrorCode::unsupported, "{}: member {} is encrypted", archive, stat.name);
    }
    if (stat.comp_method != ZIP_CM_STORE && stat.comp_method != ZIP_CM_DEFLATE) {
        return fail(ErrorCode::unsupported,
                    "{}: member {} is compressed by method {}; stored and deflated ones are read", archive,
                    stat.name, stat.comp_method);
    }
    if (stat.size / most_expansion > stat.comp_size + 1) {
        return fail(ErrorCode::format, "{}: member {} claims {} bytes from {} compressed ones", archive,
                    stat.name, stat.size, stat.comp_size);
    }
    if (stat.size > bomb_bytes && stat.size / bomb_expansion > stat.comp_size) {
        return fail(ErrorCode::refused,
                    "{}: member {} would grow from {} bytes to {}: a compression bomb, no weights", archive,
                    stat.name, stat.comp_size, stat.size);
    }
    return {};
}

}  // namespace

struct ZipArchive::Handle {
    explicit Handle(zip_t* opened) : archive(opened) {}
    Handle(const Handle&) = delete;
    Handle& operator=(const Handle&) = delete;
    ~Handle() { zip_discard(archive); }
    zip_t* archive;
};

Result<ZipArchive> ZipArchive::open(const std::filesystem::path& path) {
    int code = 0;
    zip_t* opened = zip_open(path.c_str(), ZIP_RDONLY, &code);
    if (opened == nullptr) {
        zip_error_t error;
        zip_error_init_with_code(&error, code);
        std::string text = zip_error_strerror(&error);
        zip_error_fini(&error);
        return fail(code == ZIP_ER_NOENT ? ErrorCode::not_found : ErrorCode::format, "{}: {}", path.string(),
                    text);
    }
    ZipArchive archive;
    archive.name_ = path.string();
    archive.handle_ = std::make_shared<Handle>(opened);
    RETORT_CHECK(archive.list());
    return archive;
}

Result<ZipArchive> ZipArchive::parse(std::span<const std::byte> bytes, std::string name) {
    zip_error_t error;
    zip_error_init(&error);
    zip_source_t* source = zip_source_buffer_create(bytes.data(), bytes.size(), 0, &error);
    zip_t* opened = source == nullptr ? nullptr : zip_open_from_source(source, ZIP_RDONLY, &error);
    if (opened == nullptr) {
        std::string text = zip_error_strerror(&error);
        zip_error_fini(&error);
        if (source != nullptr) zip_source_free(source);
        return fail(ErrorCode::format, "{}: {}", name, text);
    }
    zip_error_fini(&error);
    ZipArchive archive;
    archive.name_ = std::move(name);
    archive.handle_ = std::make_shared<Handle>(opened);
    RETORT_CHECK(archive.list());
    return archive;
}

Status ZipArchive::list() {
    const zip_int64_t count = zip_get_num_entries(handle_->archive, 0);
    if (count < 0 || static_cast<std::uint64_t>(count) > most_entries) {
        return fail(ErrorCode::format, "{}: {} members are more than is sensible", name_, count);
    }
    // The library takes a file of no bytes for an archive of no members.
    if (count == 0) return fail(ErrorCode::format, "{}: no zip archive, or one without members", name_);
    for (zip_int64_t i = 0; i < count; ++i) {
        zip_stat_t stat;
        zip_stat_init(&stat);
        if (zip_stat_index(handle_->archive, static_cast<zip_uint64_t>(i), 0, &stat) != 0) {
            return fail(ErrorCode::format, "{}: member {}: {}", name_, i, zip_strerror(handle_->archive));
        }
        constexpr zip_uint64_t wanted = ZIP_STAT_NAME | ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE;
        if ((stat.valid & wanted) != wanted) continue;
        entries_.push_back({stat.name, stat.size, stat.comp_size, static_cast<std::uint64_t>(i)});
    }
    return {};
}

const ZipEntry* ZipArchive::find(std::string_view entry_name) const {
    const auto found = std::find_if(entries_.begin(), entries_.end(),
                                    [&](const ZipEntry& e) { return e.name == entry_name; });
    return found == entries_.end() ? nullptr : &*found;
}

Status ZipArchive::stream(const ZipEntry& entry,
                          const std::function<Status(std::span<const std::byte>)>& on_piece) {
    zip_stat_t stat;
    zip_stat_init(&stat);
    if (zip_stat_index(handle_->archive, entry.index, 0, &stat) != 0) {
        return fail(ErrorCode::format, "{}: member {}: {}", name_, entry.name,
                    zip_strerror(handle_->archive));
    }
    RETORT_CHECK(check_entry(stat, name_));
    const std::unique_ptr<zip_file_t, int (*)(zip_file_t*)> file(
        zip_fopen_index(handle_->archive, entry.index, 0), zip_fclose);
    if (!file)
        return fail(ErrorCode::format, "{}: member {}: {}", name_, entry.name,
                    zip_strerror(handle_->archive));
    std::vector<std::byte> piece(piece_bytes);
    std::uint64_t done = 0;
    while (true) {
        if (base::interrupted()) return fail(ErrorCode::cancelled, "{}: interrupted", name_);
        const zip_int64_t got = zip_fread(file.get(), piece.data(), piece.size());
        if (got < 0) {  // a wrong checksum among others
            return fail(ErrorCode::format, "{}: member {}: {}", name_, entry.name,
                        zip_file_strerror(file.get()));
        }
        if (got == 0) break;
        done += static_cast<std::uint64_t>(got);
        if (done > entry.size) {
            return fail(ErrorCode::format, "{}: member {} holds more than the {} bytes it claims", name_,
                        entry.name, entry.size);
        }
        RETORT_CHECK(on_piece(std::span(piece).first(static_cast<std::size_t>(got))));
    }
    if (done != entry.size) {
        return fail(ErrorCode::format, "{}: member {} holds {} bytes, not the {} it claims", name_,
                    entry.name, done, entry.size);
    }
    return {};
}

Result<std::string> ZipArchive::read(const ZipEntry& entry, std::uint64_t max_bytes) {
    if (entry.size > max_bytes) {
        return fail(ErrorCode::format, "{}: member {} has {} bytes, more than the {} allowed", name_,
                    entry.name, entry.size, max_bytes);
    }
    std::string text;
    const auto append = [&](std::span<const std::byte> piece) -> Status {
        text.append(reinterpret_cast<const char*>(piece.data()), piece.size());
        return {};
    };
    RETORT_CHECK(stream(entry, append));
    return text;
}

Result<base::Sha256> ZipArchive::extract(const ZipEntry& entry, const std::filesystem::path& target,
                                         const std::optional<base::Sha256>& expected,
                                         const std::function<void(std::uint64_t)>& on_bytes) {
    RETORT_TRY(auto file, base::AtomicFile::create(target));
    crypto_hash_sha256_state state;
    crypto_hash_sha256_init(&state);
    const auto hash_and_write = [&](std::span<const std::byte> piece) -> Status {
        crypto_hash_sha256_update(&state, reinterpret_cast<const unsigned char*>(piece.data()), piece.size());
        RETORT_CHECK(file.write(piece));
        if (on_bytes) on_bytes(file.size());
        return {};
    };
    RETORT_CHECK(stream(entry, hash_and_write));
    base::Sha256 hash{};
    crypto_hash_sha256_final(&state, hash.data());
    if (expected && hash != *expected) {
        return fail(ErrorCode::format,
                    "{}: member {} has the SHA-256 {}, not the stated {}: damaged, or not what was "
                    "published; fetch it again",
                    name_, entry.name, base::to_hex(hash), base::to_hex(*expected));
    }
    RETORT_CHECK(file.commit());
    return hash;
}

}  // namespace retort::formats
