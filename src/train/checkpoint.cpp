#include "train/checkpoint.h"

#include <array>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/hash.h"
#include "tensor/adamw.h"

namespace retort::train {

namespace {

constexpr std::string_view magic = "RTCKPT01";

nlohmann::ordered_json to_json(const StepRecord& r) {
    nlohmann::ordered_json json = {{"step", r.step},
                                   {"loss", r.loss},
                                   {"ce", r.ce},
                                   {"divergence", r.divergence},
                                   {"agreement", r.agreement},
                                   {"learning_rate", r.learning_rate},
                                   {"gradient_norm", r.gradient_norm},
                                   {"tokens", r.tokens},
                                   {"trained_tokens", r.trained_tokens},
                                   {"seconds", r.seconds},
                                   {"cpu_seconds", r.cpu_seconds},
                                   {"flop", r.flop},
                                   {"peak_share", r.peak_share}};
    if (r.sampled_tokens > 0) {
        json["correct"] = r.correct;
        json["entropy"] = r.entropy;
        json["sampled_tokens"] = r.sampled_tokens;
    }
    if (r.held_out) json["held_out"] = *r.held_out;
    return json;
}

StepRecord record_from(const nlohmann::json& json) {
    StepRecord r;
    r.step = json.at("step").get<std::int64_t>();
    r.loss = json.at("loss").get<double>();
    r.ce = json.at("ce").get<double>();
    r.divergence = json.at("divergence").get<double>();
    r.agreement = json.at("agreement").get<double>();
    r.learning_rate = json.at("learning_rate").get<double>();
    r.gradient_norm = json.at("gradient_norm").get<double>();
    r.tokens = json.at("tokens").get<std::int64_t>();
    r.trained_tokens = json.at("trained_tokens").get<std::int64_t>();
    r.seconds = json.at("seconds").get<double>();
    r.cpu_seconds = json.value("cpu_seconds", 0.0);
    r.flop = json.value("flop", 0.0);
    if (json.contains("held_out")) r.held_out = json.at("held_out").get<double>();
    r.peak_share = json.value("peak_share", 0.0);  // absent in checkpoints of older builds
    r.correct = json.value("correct", 0.0);
    r.entropy = json.value("entropy", 0.0);
    r.sampled_tokens = json.value("sampled_tokens", std::int64_t{0});
    return r;
}

template <typename T>
std::span<const std::byte> bytes_of(const tensor::Buffer<T>& buffer) {
    return std::as_bytes(buffer.span());
}

std::string_view as_text(const std::uint64_t& value) {
    return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

}  // namespace

std::string step_json(const StepRecord& record) {
    return to_json(record).dump();
}

Status save_checkpoint(const std::filesystem::path& path, const CheckpointHeader& header,
                       const model::Parameters& parameters, const OptimiserState& state) {
    const std::array sections = {bytes_of(parameters.values), bytes_of(state.m), bytes_of(state.v)};
    nlohmann::ordered_json json = {{"fingerprint", header.fingerprint},
                                   {"steps", header.steps},
                                   {"optimiser_steps", state.steps},
                                   {"elements", parameters.layout.total},
                                   {"curve", nlohmann::json::array()}};
    for (const StepRecord& record : header.curve) json["curve"].push_back(to_json(record));
    json["checksums"] = nlohmann::json::array();
    for (const auto section : sections)
        json["checksums"].push_back(fmt::format("{:016x}", base::xxh3_64(section)));
    const std::string text = json.dump();
    RETORT_TRY(base::AtomicFile file, base::AtomicFile::create(path));
    RETORT_CHECK(file.write(magic));
    const std::uint64_t length = text.size();
    const std::uint64_t checksum = base::xxh3_64(text);
    RETORT_CHECK(file.write(as_text(length)));
    RETORT_CHECK(file.write(as_text(checksum)));
    RETORT_CHECK(file.write(text));
    for (const auto section : sections) RETORT_CHECK(file.write(section));
    return file.commit();
}

Result<CheckpointHeader> load_checkpoint(const std::filesystem::path& path, std::string_view fingerprint,
                                         model::Parameters& parameters, OptimiserState& state) {
    RETORT_TRY(const base::MappedFile file, base::MappedFile::open(path));
    const auto bytes = file.bytes();
    const auto damaged = [&](std::string_view what) {
        return fail(ErrorCode::format, "{}: {}; delete it to start this run again from the beginning",
                    path.string(), what);
    };
    constexpr std::size_t prefix = 24;
    if (bytes.size() < prefix || std::memcmp(bytes.data(), magic.data(), magic.size()) != 0) {
        return damaged("not a retort checkpoint");
    }
    std::uint64_t length = 0;
    std::uint64_t checksum = 0;
    std::memcpy(&length, bytes.data() + 8, 8);
    std::memcpy(&checksum, bytes.data() + 16, 8);
    if (length > bytes.size() - prefix) return damaged("its header ends past the file");
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + prefix, length);
    if (base::xxh3_64(text) != checksum) return damaged("its header is damaged");
    CheckpointHeader header;
    std::vector<std::string> checksums;
    std::int64_t elements = 0;
    try {
        const auto json = nlohmann::json::parse(text);
        header.fingerprint = json.at("fingerprint").get<std::string>();
        header.steps = json.at("steps").get<std::int64_t>();
        state.steps = json.at("optimiser_steps").get<std::int64_t>();
        elements = json.at("elements").get<std::int64_t>();
        checksums = json.at("checksums").get<std::vector<std::string>>();
        for (const auto& record : json.at("curve")) header.curve.push_back(record_from(record));
    } catch (const std::exception& error) {
        return damaged(error.what());
    }
    if (header.fingerprint != fingerprint) {
        return fail(ErrorCode::invalid_argument,
                    "{}: this checkpoint is of a run with other settings or data; use another output folder, "
                    "or delete it",
                    path.string());
    }
    const std::size_t section = parameters.values.bytes();
    if (elements != parameters.layout.total || checksums.size() != 3 ||
        bytes.size() != prefix + length + 3 * section) {
        return damaged("its size does not match the model");
    }
    const std::array<float*, 3> targets = {parameters.values.data(), state.m.data(), state.v.data()};
    for (std::size_t i = 0; i < targets.size(); ++i) {
        const auto part = bytes.subspan(prefix + length + i * section, section);
        if (fmt::format("{:016x}", base::xxh3_64(part)) != checksums[i])
            return damaged("its numbers are damaged");
        std::memcpy(targets[i], part.data(), section);
    }
    if (!state.bf16.empty()) {
        tensor::convert_to_bf16(parameters.values.data(), state.bf16.data(), parameters.layout.total);
    }
    return header;
}

}  // namespace retort::train
