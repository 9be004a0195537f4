// Hashes: XXH3 for speed (checksums, near-duplicate shingles), SHA-256 for identity and provenance.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace retort::base {

using Sha256 = std::array<std::uint8_t, 32>;

std::uint64_t xxh3_64(std::span<const std::byte> bytes, std::uint64_t seed = 0);
std::uint64_t xxh3_64(std::string_view text, std::uint64_t seed = 0);

Sha256 sha256(std::span<const std::byte> bytes);
Sha256 sha256(std::string_view text);
Result<Sha256> sha256_file(const std::filesystem::path& path);
std::string to_hex(std::span<const std::uint8_t> bytes);
std::string sha256_hex(std::string_view text);

// Merkle root over leaves in order: leaf = SHA-256(0x00 ‖ bytes), node = SHA-256(0x01 ‖ left ‖ right), an odd
// node is carried up unchanged (RFC 6962's shape for a full left subtree is not needed). No leaves:
// SHA-256("").
Sha256 merkle_root(std::span<const Sha256> leaf_hashes);
Sha256 merkle_leaf(std::string_view bytes);

}  // namespace retort::base
