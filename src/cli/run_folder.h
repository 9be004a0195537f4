// A run's folder: a sub-folder for each stage, each finished once for given inputs. Running again does only
// what is missing; a stage whose inputs changed is done again, and so is what depends on it. Knows nothing of
// what stages do.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "formats/json.h"

namespace retort::cli {

// What a finished stage left: its key, and the hash of each file.
struct StageResult {
    std::string key;                           // SHA-256 of its inputs
    std::map<std::string, std::string> files;  // path within the stage's folder → SHA-256
    bool was_there = false;                    // nothing had to be done
};

struct StageOptions {
    // A folder left by other inputs is emptied first, unless its contents sort themselves out (an answer
    // journal).
    bool keep_on_change = false;
    // Files that only help to resume (checkpoints): deleted when the stage is finished.
    std::vector<std::string> scratch_files;
};

class RunFolder {
  public:
    // Creates the folder and holds a lock on it for as long as the object lives.
    static Result<RunFolder> open(const std::filesystem::path& folder);

    // Runs `work` in folder/NAME unless that stage is finished with the same inputs and its files are there.
    // `work` finds what an interrupted run of the same inputs left.
    Result<StageResult> stage(std::string_view name, const formats::Json& inputs,
                              const std::function<Status(const std::filesystem::path&)>& work,
                              const StageOptions& options = {});

    [[nodiscard]] const std::filesystem::path& path() const { return folder_; }

  private:
    RunFolder(std::filesystem::path folder, base::FileLock lock)
        : folder_(std::move(folder)), lock_(std::move(lock)) {}
    std::filesystem::path folder_;
    base::FileLock lock_;
};

}  // namespace retort::cli
