#include "train/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/hash.h"
#include "base/parallel.h"

namespace retort::train {

namespace {

constexpr std::string_view magic = "RTCKPT02";

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

std::string_view as_text(const std::uint64_t& value) {
    return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

// Calls use(section, first element, count) for each piece of the file, in order.
template <typename Use>
Status each_piece(const Trainee& trainee, const Use& use) {
    for (const Trainee::Section section : Trainee::sections) {
        for (std::int64_t at = 0; at < trainee.elements(); at += Trainee::piece_elements) {
            const std::int64_t count = std::min(Trainee::piece_elements, trainee.elements() - at);
            RETORT_CHECK(use(section, at, static_cast<std::size_t>(count)));
        }
    }
    return {};
}

std::string moments_name(const Trainee& trainee) {
    return std::string(tensor::dtype_info(trainee.section_type(Trainee::Section::first_moments)).name);
}

std::string header_text(const CheckpointHeader& header, Trainee& trainee) {
    nlohmann::ordered_json json = {
        {"fingerprint", header.fingerprint},  {"steps", header.steps},
        {"optimiser_steps", trainee.steps()}, {"elements", trainee.elements()},
        {"piece", Trainee::piece_elements},   {"processes", trainee.world().size()},
        {"threads", base::thread_count()},    {"moments", moments_name(trainee)},
        {"curve", nlohmann::json::array()}};
    for (const StepRecord& record : header.curve) json["curve"].push_back(to_json(record));
    return json.dump();
}

}  // namespace

std::string step_json(const StepRecord& record) {
    return to_json(record).dump();
}

Status save_checkpoint(const std::filesystem::path& path, const CheckpointHeader& header, Trainee& trainee) {
    std::optional<base::AtomicFile> file;
    Status status;
    if (trainee.world().is_first()) {
        RETORT_TRY(file, base::AtomicFile::create(path));
        const std::string text = header_text(header, trainee);
        const std::uint64_t length = text.size();
        const std::uint64_t checksum = base::xxh3_64(text);
        RETORT_CHECK(file->write(magic));
        RETORT_CHECK(file->write(as_text(length)));
        RETORT_CHECK(file->write(as_text(checksum)));
        RETORT_CHECK(file->write(text));
    }
    std::vector<float> piece;
    std::vector<std::uint16_t> narrow;
    RETORT_CHECK(
        each_piece(trainee, [&](Trainee::Section section, std::int64_t at, std::size_t count) -> Status {
            piece.resize(count);
            trainee.read(section, at, piece);
            if (!file) return {};
            auto bytes = std::as_bytes(std::span(piece));
            if (trainee.section_type(section) == tensor::DType::bf16) {
                narrow.resize(count);
                tensor::convert_to_bf16(piece.data(), narrow.data(), static_cast<std::int64_t>(count));
                bytes = std::as_bytes(std::span(narrow));
            }
            const std::uint64_t checksum = base::xxh3_64(bytes);
            RETORT_CHECK(file->write(bytes));
            return file->write(as_text(checksum));
        }));
    return file ? file->commit() : Status{};
}

Result<CheckpointHeader> load_checkpoint(const std::filesystem::path& path, std::string_view fingerprint,
                                         Trainee& trainee) {
    RETORT_TRY(const base::MappedFile file, base::MappedFile::open(path));
    const auto bytes = file.bytes();
    const auto damaged = [&](std::string_view what) {
        return fail(ErrorCode::format, "{}: {}; delete it to start this run again from the beginning",
                    path.string(), what);
    };
    constexpr std::size_t prefix = 24;
    if (bytes.size() < prefix || std::memcmp(bytes.data(), magic.data(), magic.size()) != 0) {
        return damaged("not a retort checkpoint of this version");
    }
    std::uint64_t length = 0;
    std::uint64_t checksum = 0;
    std::memcpy(&length, bytes.data() + 8, 8);
    std::memcpy(&checksum, bytes.data() + 16, 8);
    if (length > bytes.size() - prefix) return damaged("its header ends past the file");
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + prefix, length);
    if (base::xxh3_64(text) != checksum) return damaged("its header is damaged");
    CheckpointHeader header;
    std::int64_t elements = 0;
    std::int64_t piece_elements = 0;
    std::int64_t optimiser_steps = 0;
    std::string moments;
    try {
        const auto json = nlohmann::json::parse(text);
        header.fingerprint = json.at("fingerprint").get<std::string>();
        header.steps = json.at("steps").get<std::int64_t>();
        optimiser_steps = json.at("optimiser_steps").get<std::int64_t>();
        elements = json.at("elements").get<std::int64_t>();
        piece_elements = json.at("piece").get<std::int64_t>();
        header.processes = json.at("processes").get<int>();
        header.threads = json.at("threads").get<int>();
        moments = json.value("moments", "f32");  // absent in checkpoints of older builds
        for (const auto& record : json.at("curve")) header.curve.push_back(record_from(record));
    } catch (const std::exception& error) {
        return damaged(error.what());
    }
    if (moments != moments_name(trainee)) {
        return fail(
            ErrorCode::invalid_argument,
            "{}: this checkpoint keeps AdamW's moments in {}, and this run in {}; give --moments {}, use "
            "another output folder, or delete it",
            path.string(), moments, moments_name(trainee), moments);
    }
    if (header.fingerprint != fingerprint) {
        return fail(ErrorCode::invalid_argument,
                    "{}: this checkpoint is of a run with other settings or data; use another output folder, "
                    "or delete it",
                    path.string());
    }
    const std::int64_t pieces = (trainee.elements() + Trainee::piece_elements - 1) / Trainee::piece_elements;
    std::int64_t element_bytes = 0;  // of all sections
    for (const Trainee::Section section : Trainee::sections)
        element_bytes += tensor::dtype_bytes(trainee.section_type(section), 1);
    const auto body = static_cast<std::size_t>(element_bytes * trainee.elements() + 3 * 8 * pieces);
    if (elements != trainee.elements() || piece_elements != Trainee::piece_elements ||
        bytes.size() != prefix + length + body) {
        return damaged("its size does not match the model");
    }
    std::size_t next = prefix + length;
    std::vector<float> piece;
    std::vector<std::uint16_t> narrow;
    RETORT_CHECK(
        each_piece(trainee, [&](Trainee::Section section, std::int64_t at, std::size_t count) -> Status {
            const tensor::DType type = trainee.section_type(section);
            const auto elements_here = static_cast<std::int64_t>(count);
            const auto content =
                bytes.subspan(next, static_cast<std::size_t>(tensor::dtype_bytes(type, elements_here)));
            std::memcpy(&checksum, bytes.data() + next + content.size(), 8);
            next += content.size() + 8;
            if (base::xxh3_64(content) != checksum) return damaged("its numbers are damaged");
            piece.resize(count);
            if (type == tensor::DType::bf16) {
                narrow.resize(count);
                std::memcpy(narrow.data(), content.data(), content.size());
                tensor::convert_from_bf16(narrow.data(), piece.data(), elements_here);
            } else {
                std::memcpy(piece.data(), content.data(), content.size());
            }
            trainee.write(section, at, piece);
            return {};
        }));
    trainee.set_steps(optimiser_steps);
    return header;
}

}  // namespace retort::train
