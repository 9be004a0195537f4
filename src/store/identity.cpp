#include "store/identity.h"

#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/file.h"
#include "base/hash.h"

namespace retort::store {

namespace {

constexpr std::string_view key_prefix = "rk-";
constexpr std::size_t id_digits = 16;

std::string random_hex(std::size_t bytes) {
    std::string out(bytes, '\0');
    randombytes_buf(out.data(), out.size());
    return base::to_hex({reinterpret_cast<const std::uint8_t*>(out.data()), out.size()});
}

bool from_hex_digits(std::string_view hex, std::uint8_t* out, std::size_t size) {
    std::size_t length = 0;
    return hex.size() == 2 * size &&
           sodium_hex2bin(out, size, hex.data(), hex.size(), nullptr, &length, nullptr) == 0 &&
           length == size;
}

}  // namespace

Result<Secret> Secret::from_hex(std::string_view hex) {
    if (sodium_init() < 0) return fail(ErrorCode::internal, "libsodium finds no source of randomness");
    while (!hex.empty() && (hex.back() == '\n' || hex.back() == '\r' || hex.back() == ' '))
        hex.remove_suffix(1);
    Secret secret;
    if (!from_hex_digits(hex, secret.bytes_.data(), secret.bytes_.size())) {
        return fail(ErrorCode::invalid_argument, "the store's secret must be 64 hexadecimal digits");
    }
    return secret;
}

Result<Secret> Secret::load_or_create(const std::filesystem::path& file) {
    if (sodium_init() < 0) return fail(ErrorCode::internal, "libsodium finds no source of randomness");
    std::error_code ignored;
    if (!std::filesystem::exists(file, ignored)) {
        // Written under another name and linked: of two programs that start together one makes it.
        const std::string temporary = file.string() + "." + random_hex(8);
        const std::string text = random_hex(32) + "\n";
        const int descriptor = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (descriptor < 0) {
            return fail(ErrorCode::io, "{}: cannot make the store's secret: {}", file.string(),
                        std::strerror(errno));
        }
        const bool written =
            ::write(descriptor, text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
            ::fsync(descriptor) == 0;
        ::close(descriptor);
        const int linked = written ? ::link(temporary.c_str(), file.c_str()) : -1;
        const int code = errno;
        ::unlink(temporary.c_str());
        if (!written || (linked != 0 && code != EEXIST)) {
            return fail(ErrorCode::io, "{}: cannot make the store's secret: {}", file.string(),
                        std::strerror(code));
        }
    }
    struct stat information {};
    if (::stat(file.c_str(), &information) == 0 && (information.st_mode & 0077U) != 0) {
        return fail(ErrorCode::invalid_argument,
                    "{}: others may read the store's secret; run chmod 600 on it, and rotate the keys if "
                    "someone has",
                    file.string());
    }
    RETORT_TRY(const std::string text, base::read_file(file, 4096));
    auto secret = from_hex(text);
    if (!secret) return fail_from(secret.error(), file.string());
    return secret;
}

IdentityHash Secret::hash(std::string_view purpose, std::string_view text) const {
    crypto_generichash_state state;
    crypto_generichash_init(&state, bytes_.data(), bytes_.size(), hash_bytes);
    const auto add = [&](std::string_view part) {
        crypto_generichash_update(&state, reinterpret_cast<const unsigned char*>(part.data()), part.size());
    };
    add(purpose);
    add(std::string_view("\0", 1));
    add(text);
    IdentityHash out{};
    crypto_generichash_final(&state, out.data(), out.size());
    return out;
}

std::string Secret::short_hash(std::string_view purpose, std::string_view text) const {
    const IdentityHash whole = hash(purpose, text);
    return base::to_hex(std::span(whole).first(16));
}

NewKey make_key() {
    NewKey key;
    key.id = random_hex(id_digits / 2);
    std::array<unsigned char, 32> bytes{};
    randombytes_buf(bytes.data(), bytes.size());
    std::array<char, 64> text{};
    sodium_bin2base64(text.data(), text.size(), bytes.data(), bytes.size(),
                      sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    key.text = std::string(key_prefix) + key.id + "-" + text.data();
    return key;
}

std::string_view key_id(std::string_view text) {
    const std::size_t end = key_prefix.size() + id_digits;
    if (!text.starts_with(key_prefix) || text.size() <= end + 1 || text[end] != '-') return {};
    return text.substr(key_prefix.size(), id_digits);
}

std::string random_name(std::string_view prefix) {
    return std::string(prefix) + random_hex(8);
}

bool is_same_hash(const IdentityHash& a, const IdentityHash& b) {
    return sodium_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string hash_text(const IdentityHash& hash) {
    return base::to_hex(hash);
}

Result<IdentityHash> parse_hash(std::string_view hex) {
    IdentityHash out{};
    if (!from_hex_digits(hex, out.data(), out.size())) {
        return fail(ErrorCode::format, "a hash of {} characters is not 64 hexadecimal digits", hex.size());
    }
    return out;
}

}  // namespace retort::store
