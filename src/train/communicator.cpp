#include "train/communicator.h"

#include <algorithm>

namespace retort::train {

namespace {

class Alone final : public Communicator {
  public:
    [[nodiscard]] int rank() const override { return 0; }
    [[nodiscard]] int size() const override { return 1; }
    void sum_to_owners(float* /*x*/, std::span<const Range> /*ranges*/) override {}
    void share_from_owners(void* /*x*/, std::int64_t /*element_bytes*/,
                           std::span<const Range> /*ranges*/) override {}
    void sum(std::span<double> /*values*/) override {}
    void send_to_first(int /*from*/, std::span<const float> values, std::span<float> to) override {
        std::copy(values.begin(), values.end(), to.begin());
    }
    void broadcast_from_first(std::span<std::byte> /*bytes*/) override {}
};

}  // namespace

Range Range::within(Range other) const {
    const std::int64_t first = std::max(begin, other.begin);
    return {first, std::max(first, std::min(end, other.end))};
}

std::vector<Range> share_out(std::int64_t elements, int ranks) {
    constexpr std::int64_t line = 16;
    std::vector<Range> ranges;
    std::int64_t begin = 0;
    for (int r = 1; r <= ranks; ++r) {
        const std::int64_t end = r == ranks ? elements : elements * r / ranks / line * line;
        ranges.push_back({begin, std::max(begin, end)});
        begin = ranges.back().end;
    }
    return ranges;
}

Communicator& alone() {
    static Alone world;
    return world;
}

}  // namespace retort::train
