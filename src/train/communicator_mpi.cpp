// The processes of `mpirun -n N`. A build without MPI knows only that it was started so, and refuses.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>

#include "train/communicator.h"

#ifdef RETORT_HAVE_MPI
#define OMPI_SKIP_MPICXX 1
#include <mpi.h>
#endif

namespace retort::train {

namespace {

// How many processes the launcher says there are: Open MPI's and PRRTE's variable, and MPICH's.
int launched_processes() {
    for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}) {
        if (const char* text = std::getenv(name)) return std::max(1, std::atoi(text));
    }
    return 1;
}

#ifdef RETORT_HAVE_MPI

class MpiWorld final : public Communicator {
  public:
    MpiWorld() {
        int provided = 0;
        MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
        MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
        MPI_Comm_size(MPI_COMM_WORLD, &size_);
    }
    ~MpiWorld() override { MPI_Finalize(); }
    MpiWorld(const MpiWorld&) = delete;
    MpiWorld& operator=(const MpiWorld&) = delete;

    [[nodiscard]] int rank() const override { return rank_; }
    [[nodiscard]] int size() const override { return size_; }

    // A piece of every range at a time: each process sends its part of the piece to its owner, who adds them
    // up in order of rank.
    void sum_to_owners(float* x, std::span<const Range> ranges) override {
        const auto ranks = static_cast<std::size_t>(size_);
        std::vector<int> counts(ranks);
        std::vector<int> offsets(ranks);
        std::vector<int> own_counts(ranks);
        std::vector<int> own_offsets(ranks);
        std::vector<float> outgoing;
        std::vector<float> incoming;
        for (std::int64_t at = 0; at < longest(ranges); at += piece) {
            outgoing.clear();
            for (std::size_t r = 0; r < ranks; ++r) {
                const Range part = piece_of(ranges[r], at);
                counts[r] = static_cast<int>(part.size());
                offsets[r] = static_cast<int>(outgoing.size());
                outgoing.insert(outgoing.end(), x + part.begin, x + part.end);
            }
            const Range own = piece_of(ranges[static_cast<std::size_t>(rank_)], at);
            const auto count = static_cast<std::size_t>(own.size());
            incoming.resize(ranks * count);
            for (std::size_t r = 0; r < ranks; ++r) {
                own_counts[r] = static_cast<int>(count);
                own_offsets[r] = static_cast<int>(r * count);
            }
            MPI_Alltoallv(outgoing.data(), counts.data(), offsets.data(), MPI_FLOAT, incoming.data(),
                          own_counts.data(), own_offsets.data(), MPI_FLOAT, MPI_COMM_WORLD);
            for (std::size_t i = 0; i < count; ++i) {
                float sum = incoming[i];
                for (std::size_t r = 1; r < ranks; ++r) sum += incoming[r * count + i];
                x[own.begin + static_cast<std::int64_t>(i)] = sum;
            }
        }
    }

    void share_from_owners(void* x, std::int64_t element_bytes, std::span<const Range> ranges) override {
        auto* bytes = static_cast<std::byte*>(x);
        for (int r = 0; r < size_; ++r) {
            const Range& range = ranges[static_cast<std::size_t>(r)];
            for (std::int64_t at = range.begin; at < range.end; at += piece) {
                const std::int64_t count = std::min(piece, range.end - at);
                MPI_Bcast(bytes + at * element_bytes, static_cast<int>(count * element_bytes), MPI_BYTE, r,
                          MPI_COMM_WORLD);
            }
        }
    }

    void sum(std::span<double> values) override {
        const auto count = static_cast<int>(values.size());
        std::vector<double> all(values.size() * static_cast<std::size_t>(size_));
        MPI_Allgather(values.data(), count, MPI_DOUBLE, all.data(), count, MPI_DOUBLE, MPI_COMM_WORLD);
        for (std::size_t i = 0; i < values.size(); ++i) {
            values[i] = all[i];
            for (std::size_t r = 1; r < static_cast<std::size_t>(size_); ++r)
                values[i] += all[r * values.size() + i];
        }
    }

    void send_to_first(int from, std::span<const float> values, std::span<float> to) override {
        if (from == 0) {
            if (rank_ == 0) std::copy(values.begin(), values.end(), to.begin());
        } else if (rank_ == from) {
            MPI_Send(values.data(), static_cast<int>(values.size()), MPI_FLOAT, 0, 0, MPI_COMM_WORLD);
        } else if (rank_ == 0) {
            MPI_Recv(to.data(), static_cast<int>(to.size()), MPI_FLOAT, from, 0, MPI_COMM_WORLD,
                     MPI_STATUS_IGNORE);
        }
    }

    void broadcast_from_first(std::span<std::byte> bytes) override {
        MPI_Bcast(bytes.data(), static_cast<int>(bytes.size()), MPI_BYTE, 0, MPI_COMM_WORLD);
    }

  private:
    static constexpr std::int64_t piece = std::int64_t{1} << 20U;  // elements; counts are ints

    static std::int64_t longest(std::span<const Range> ranges) {
        std::int64_t most = 0;
        for (const Range& range : ranges) most = std::max(most, range.size());
        return most;
    }
    static Range piece_of(Range range, std::int64_t at) {
        return range.within({range.begin + at, range.begin + at + piece});
    }

    int rank_ = 0;
    int size_ = 1;
};

#endif

}  // namespace

Result<Communicator*> join_world() {
    const int processes = launched_processes();
    if (processes == 1) return &alone();
#ifdef RETORT_HAVE_MPI
    static MpiWorld world;
    return &world;
#else
    return fail(ErrorCode::unsupported,
                "started as one of {} processes, but this build has no MPI: install libopenmpi-dev and build "
                "again, or start it without mpirun",
                processes);
#endif
}

void abandon_world() {
#ifdef RETORT_HAVE_MPI
    int started = 0;
    int ended = 0;
    MPI_Initialized(&started);
    MPI_Finalized(&ended);
    if (started != 0 && ended == 0) MPI_Abort(MPI_COMM_WORLD, 1);
#endif
}

}  // namespace retort::train
