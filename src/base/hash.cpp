#include "base/hash.h"

#include <sodium.h>
#include <xxhash.h>

#include <vector>

#include "base/file.h"

namespace retort::base {

std::uint64_t xxh3_64(std::span<const std::byte> bytes, std::uint64_t seed) {
    return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

std::uint64_t xxh3_64(std::string_view text, std::uint64_t seed) {
    return XXH3_64bits_withSeed(text.data(), text.size(), seed);
}

Sha256 sha256(std::span<const std::byte> bytes) {
    Sha256 digest{};
    crypto_hash_sha256(digest.data(), reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
    return digest;
}

Sha256 sha256(std::string_view text) {
    return sha256(std::as_bytes(std::span(text)));
}

Result<Sha256> sha256_file(const std::filesystem::path& path) {
    RETORT_TRY(const MappedFile file, MappedFile::open(path));
    return sha256(file.bytes());
}

std::string to_hex(std::span<const std::uint8_t> bytes) {
    static constexpr char digits[] = "0123456789abcdef";
    std::string text;
    text.reserve(bytes.size() * 2);
    for (const std::uint8_t byte : bytes) {
        text.push_back(digits[byte >> 4U]);
        text.push_back(digits[byte & 15U]);
    }
    return text;
}

std::string sha256_hex(std::string_view text) {
    return to_hex(sha256(text));
}

Sha256 merkle_leaf(std::string_view bytes) {
    std::string prefixed(1, '\0');
    prefixed.append(bytes);
    return sha256(prefixed);
}

Sha256 merkle_root(std::span<const Sha256> leaf_hashes) {
    if (leaf_hashes.empty()) return sha256(std::string_view{});
    std::vector<Sha256> level(leaf_hashes.begin(), leaf_hashes.end());
    while (level.size() > 1) {
        std::vector<Sha256> above;
        for (std::size_t i = 0; i + 1 < level.size(); i += 2) {
            std::string node(1, '\1');
            node.append(reinterpret_cast<const char*>(level[i].data()), level[i].size());
            node.append(reinterpret_cast<const char*>(level[i + 1].data()), level[i + 1].size());
            above.push_back(sha256(node));
        }
        if (level.size() % 2 == 1) above.push_back(level.back());
        level = std::move(above);
    }
    return level.front();
}

}  // namespace retort::base
