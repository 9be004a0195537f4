// Processes of a training run as threads of one test, joined by a communicator that keeps MPI's promises.
#pragma once

#include <algorithm>
#include <barrier>
#include <cstring>
#include <span>
#include <vector>

#include "train/communicator.h"

namespace retort::train {

struct Meeting {
    explicit Meeting(int ranks) : barrier(ranks), slots(static_cast<std::size_t>(ranks)) {}
    std::barrier<> barrier;
    std::vector<void*> slots;
};

class ThreadRank final : public Communicator {
  public:
    ThreadRank(Meeting& meeting, int rank) : meeting_(meeting), rank_(rank) {}
    [[nodiscard]] int rank() const override { return rank_; }
    [[nodiscard]] int size() const override { return static_cast<int>(meeting_.slots.size()); }
    void sum_to_owners(float* x, std::span<const Range> ranges) override {
        show(x);
        const Range own = ranges[static_cast<std::size_t>(rank_)];
        std::vector<float> sums(static_cast<std::size_t>(own.size()));
        for (std::int64_t i = 0; i < own.size(); ++i) {
            sums[static_cast<std::size_t>(i)] = at<float>(0)[own.begin + i];
            for (int r = 1; r < size(); ++r) sums[static_cast<std::size_t>(i)] += at<float>(r)[own.begin + i];
        }
        meeting_.barrier.arrive_and_wait();
        std::copy(sums.begin(), sums.end(), x + own.begin);
    }
    void share_from_owners(void* x, std::int64_t bytes, std::span<const Range> ranges) override {
        show(x);
        for (int r = 0; r < size(); ++r) {
            const Range range = ranges[static_cast<std::size_t>(r)];
            if (r != rank_)
                std::memcpy(static_cast<char*>(x) + range.begin * bytes, at<char>(r) + range.begin * bytes,
                            static_cast<std::size_t>(range.size() * bytes));
        }
        meeting_.barrier.arrive_and_wait();
    }
    void sum(std::span<double> values) override {
        std::vector<double> mine(values.begin(), values.end());
        show(mine.data());
        for (std::size_t i = 0; i < values.size(); ++i) {
            values[i] = at<double>(0)[i];
            for (int r = 1; r < size(); ++r) values[i] += at<double>(r)[i];
        }
        meeting_.barrier.arrive_and_wait();
    }
    void send_to_first(int from, std::span<const float> values, std::span<float> to) override {
        show(const_cast<float*>(values.data()));
        if (rank_ == 0) std::copy_n(at<float>(from), to.size(), to.begin());
        meeting_.barrier.arrive_and_wait();
    }
    void broadcast_from_first(std::span<std::byte> bytes) override {
        show(bytes.data());
        if (rank_ != 0) std::copy_n(at<std::byte>(0), bytes.size(), bytes.begin());
        meeting_.barrier.arrive_and_wait();
    }

  private:
    void show(void* mine) {
        meeting_.slots[static_cast<std::size_t>(rank_)] = mine;
        meeting_.barrier.arrive_and_wait();
    }
    template <typename T>
    [[nodiscard]] const T* at(int rank) const {
        return static_cast<const T*>(meeting_.slots[static_cast<std::size_t>(rank)]);
    }
    Meeting& meeting_;
    int rank_;
};

}  // namespace retort::train
