// What a guard that watches keeps on disk, as bytes: docs/formats/guard_follower.md. Knows no file.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>

#include "base/result.h"
#include "store/event_log.h"

namespace retort::guard {

struct FollowerCheckpoint {
    std::uint64_t number = 0;
    std::map<std::string, std::uint64_t> places;  // by file: bytes read
    std::set<store::ShortHash> allowed;
    std::string state;  // of the guard

    friend bool operator==(const FollowerCheckpoint&, const FollowerCheckpoint&) = default;
};
std::string write_checkpoint(const FollowerCheckpoint& checkpoint);
Result<FollowerCheckpoint> read_checkpoint(std::string_view bytes);

// A frame of the journal: a part of a file of the event log that was read.
struct ReadPart {
    std::string file;
    std::uint64_t from = 0;
    std::uint64_t to = 0;

    friend bool operator==(const ReadPart&, const ReadPart&) = default;
};
std::string write_part(const ReadPart& part);
Result<ReadPart> read_part(std::string_view frame);

}  // namespace retort::guard
