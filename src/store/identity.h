// Keys and other identities, which are kept only as keyed hashes: who has the store but not the secret can
// neither use a key nor test a guess of an address. Knows no table.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/result.h"

namespace retort::store {

inline constexpr std::size_t hash_bytes = 32;
using IdentityHash = std::array<std::uint8_t, hash_bytes>;

class Secret {
  public:
    // 32 bytes as 64 hexadecimal digits in a file that only its owner may read; made there if absent.
    static Result<Secret> load_or_create(const std::filesystem::path& file);
    static Result<Secret> from_hex(std::string_view hex);

    // BLAKE2b-256 keyed with the secret over purpose ‖ 0 ‖ text: equal texts of two purposes do not meet.
    [[nodiscard]] IdentityHash hash(std::string_view purpose, std::string_view text) const;
    // The first 16 bytes as hexadecimal digits: what names an address or an account in logs.
    [[nodiscard]] std::string short_hash(std::string_view purpose, std::string_view text) const;

  private:
    std::array<std::uint8_t, 32> bytes_{};
};

// "rk-ID-SECRET": ID is public and finds the row, SECRET is 32 random bytes.
struct NewKey {
    std::string id;
    std::string text;  // shown once
};
NewKey make_key();
// The ID of a key's text; empty when it has not the form.
std::string_view key_id(std::string_view text);
std::string random_name(std::string_view prefix);
// In a time that tells nothing of where they differ.
bool is_same_hash(const IdentityHash& a, const IdentityHash& b);
std::string hash_text(const IdentityHash& hash);
Result<IdentityHash> parse_hash(std::string_view hex);

}  // namespace retort::store
