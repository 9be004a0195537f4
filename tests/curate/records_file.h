// Records that a test has made, as a file to curate.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <vector>

#include "data/record.h"

namespace retort::curate {

// A folder of this name that holds nothing.
inline std::filesystem::path empty_folder(const std::string& name) {
    const std::filesystem::path path = std::filesystem::path(::testing::TempDir()) / name;
    std::filesystem::remove_all(path);
    std::filesystem::create_directories(path);
    return path;
}

inline std::filesystem::path write_records(const std::filesystem::path& folder,
                                           const std::vector<data::Record>& records) {
    const std::filesystem::path path = folder / "records.jsonl";
    auto writer = data::RecordWriter::create(path);
    EXPECT_TRUE(writer);
    for (const data::Record& record : records) EXPECT_TRUE(writer->add(record));
    EXPECT_TRUE(writer->commit());
    return path;
}

}  // namespace retort::curate
