// A run's curve for TensorBoard: `tensorboard --logdir FOLDER` draws it while it grows. The format is that of
// TensorFlow's event files (tensorflow/core/util/event.proto in TFRecord frames): length, masked CRC-32C of
// the length, bytes, masked CRC-32C of the bytes. Written only; nothing here reads one.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "train/checkpoint.h"

namespace retort::train {

inline constexpr std::string_view event_file_name = "events.out.tfevents.0.retort";

// Castagnoli's polynomial.
std::uint32_t crc32c(std::string_view bytes);

using Scalar = std::pair<std::string_view, double>;  // tag, value
// One frame: the event that opens a file, and one of scalars at a step. wall_time: Unix seconds.
std::string version_frame(double wall_time);
std::string scalars_frame(double wall_time, std::int64_t step, std::span<const Scalar> scalars);
// Of a step, those that were measured.
std::vector<Scalar> step_scalars(const StepRecord& record);

class EventFile {
  public:
    // Begins anew with the steps there are, as if the last of them had ended now. What a kill cuts off an
    // append is made good by this, too.
    static Result<EventFile> create(const std::filesystem::path& path, std::span<const StepRecord> curve);
    EventFile(EventFile&& other) noexcept : path_(std::move(other.path_)), descriptor_(other.descriptor_) {
        other.descriptor_ = -1;
    }
    EventFile& operator=(EventFile&& other) noexcept {
        std::swap(path_, other.path_);
        std::swap(descriptor_, other.descriptor_);
        return *this;
    }
    EventFile(const EventFile&) = delete;
    EventFile& operator=(const EventFile&) = delete;
    ~EventFile();

    Status add(const StepRecord& record);

  private:
    EventFile() = default;
    std::filesystem::path path_;
    int descriptor_ = -1;
};

}  // namespace retort::train
