// Random streams that are a pure function of (seed, stream, counter), so that a resumed job draws what an
// uninterrupted one would have drawn, and two jobs never share a stream by accident.
#pragma once

#include <cstdint>

namespace retort::base {

// SplitMix64 over a hashed (seed, stream) origin; the state is the counter, which a checkpoint stores.
class RandomStream {
  public:
    explicit RandomStream(std::uint64_t seed = 0, std::uint64_t stream = 0);

    std::uint64_t next_u64();
    // Uniform in [0, 1) with 53 bits.
    double uniform();
    // Uniform in [0, bound), bound > 0, without modulo bias.
    std::uint64_t below(std::uint64_t bound);
    // Standard normal (Box–Muller, one value a call).
    double normal();

    [[nodiscard]] std::uint64_t counter() const { return counter_; }
    void set_counter(std::uint64_t counter) { counter_ = counter; }

  private:
    std::uint64_t origin_;
    std::uint64_t counter_ = 0;
};

}  // namespace retort::base
