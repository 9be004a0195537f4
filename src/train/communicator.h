// The processes of one training run, and what they say to each other. A run alone is one process; `mpirun`
// starts several (train/communicator_mpi.cpp). Every sum is taken in the order of the ranks, so that a run of
// as many ranks gives the same bits again. Knows no model: ranges of flat buffers, and bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"

namespace retort::train {

// [begin, end) of a flat buffer.
struct Range {
    std::int64_t begin = 0;
    std::int64_t end = 0;

    [[nodiscard]] std::int64_t size() const { return end - begin; }
    [[nodiscard]] Range within(Range other) const;  // empty where they do not meet
};

// Who owns what of a flat buffer: a range a rank, end to end, on cache lines.
std::vector<Range> share_out(std::int64_t elements, int ranks);

// Every call but rank() and size() is made by all ranks, in the same order.
class Communicator {
  public:
    Communicator() = default;
    Communicator(const Communicator&) = delete;
    Communicator& operator=(const Communicator&) = delete;
    virtual ~Communicator() = default;

    [[nodiscard]] virtual int rank() const = 0;
    [[nodiscard]] virtual int size() const = 0;
    [[nodiscard]] bool is_first() const { return rank() == 0; }

    // x in this rank's range becomes the sum of all ranks' x there; x elsewhere is not changed.
    virtual void sum_to_owners(float* x, std::span<const Range> ranges) = 0;
    // x (element_bytes each) in every range becomes what its owner has.
    virtual void share_from_owners(void* x, std::int64_t element_bytes, std::span<const Range> ranges) = 0;
    // The sum of all ranks' values, on each of them.
    virtual void sum(std::span<double> values) = 0;
    // On rank 0: `to` becomes rank `from`'s `values` (of the same size).
    virtual void send_to_first(int from, std::span<const float> values, std::span<float> to) = 0;
    virtual void broadcast_from_first(std::span<std::byte> bytes) = 0;
};

// A run of one process.
Communicator& alone();

// The processes that this one was started among: alone, or one of `mpirun -n N`. An error where it was
// started by mpirun and this build has no MPI.
Result<Communicator*> join_world();
// Ends all processes of the run: after an error of one, which the others would wait for.
void abandon_world();

}  // namespace retort::train
