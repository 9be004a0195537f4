// Keyed watermarks of sampled text: what a scheme is, and the pseudo-random numbers that all of it stands on.
// A token's number depends on the key, the `window` tokens before it and the token, and on nothing else;
// under another key the numbers of distinct (window, token) are independent of these and of each other. Knows
// no model, no text and no server.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace retort::watermark {

enum class SchemeKind {
    red_green,   // Kirchenbauer et al. 2023: a share γ of the vocabulary is green and its logits gain δ
    gumbel,      // Aaronson 2022: argmax r^{1/p}; the same context always gives the same token
    tournament,  // SynthID-Text (Dathathri et al. 2024): m layers p ← p·(1 + g − Σ g·p), g a fair bit
};

struct Scheme {
    SchemeKind kind = SchemeKind::red_green;
    std::int64_t window = 1;   // tokens before that choose the numbers, 1–8
    double gamma = 0.25;       // red_green: green share
    double delta = 2;          // red_green: added to green logits, before temperature
    std::int64_t layers = 30;  // tournament: 2–64

    bool operator==(const Scheme&) const = default;
};

std::string_view kind_name(SchemeKind kind);
Result<SchemeKind> kind_from_name(std::string_view name);
// Ranges as above; the message names the member.
Status check_scheme(const Scheme& scheme);

// Of one channel: who has it can detect its mark and forge it.
struct Subkey {
    std::array<std::uint8_t, 16> bytes{};
    bool operator==(const Subkey&) const = default;
};

// Never leaves the owner: every channel's subkey follows from it.
class MasterKey {
  public:
    // 32 bytes as 64 hexadecimal digits.
    static Result<MasterKey> from_hex(std::string_view hex);
    static MasterKey random();
    [[nodiscard]] std::string hex() const;

    // libsodium's key derivation: context "retortwm", number the first 8 bytes (little-endian) of BLAKE2b-256
    // over kind ‖ ':' ‖ channel.
    [[nodiscard]] Subkey subkey(SchemeKind kind, std::string_view channel) const;

  private:
    std::array<std::uint8_t, 32> bytes_{};
};

std::string subkey_hex(const Subkey& key);
Result<Subkey> subkey_from_hex(std::string_view hex);

// SipHash-2-4 under the key of window and token as little-endian 32-bit numbers.
std::uint64_t pair_hash(const Subkey& key, std::span<const std::int32_t> window, std::int32_t token);
// hash < γ·2⁶⁴.
bool is_green(std::uint64_t hash, double gamma);
// (hash's upper 53 bits + ½)/2⁵³: never 0 or 1.
double unit_number(std::uint64_t hash);

}  // namespace retort::watermark
