#include <fmt/format.h>

#include <array>

#include "base/clock.h"
#include "cli/commands.h"
#include "cli/export_card.h"
#include "cli/export_model.h"
#include "cli/model_path.h"
#include "data/lineage.h"
#include "data/manifest.h"
#include "formats/json.h"
#include "text/text_model.h"
#include "train/model_files.h"

namespace retort::cli {

namespace {

Result<tensor::DType> dtype_from_name(std::string_view name) {
    using tensor::DType;
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_0, DType::q4_1}) {
        if (tensor::dtype_info(dtype).name == name) return dtype;
    }
    return fail(ErrorCode::invalid_argument,
                "type \"{}\" cannot be written; use f32, f16, bf16, q8_0, q4_0 or q4_1", name);
}

// A card that lies beside the model goes on to what is made of it; of what `distill` left, what it trained
// on.
Result<data::ModelCard> card_of(const std::filesystem::path& model) {
    std::error_code code;
    if (std::filesystem::exists(data::card_path(model), code)) return data::read_model_card(model);
    data::ModelCard card;
    const std::filesystem::path report = model.parent_path() / "distill.json";
    if (!std::filesystem::exists(report, code)) return card;
    RETORT_TRY(const formats::Json json, formats::read_json_file(report));
    RETORT_TRY(card.teacher, formats::json_string(json, "teacher", std::string()));
    RETORT_TRY(card.training, formats::json_string(json, "objective", std::string()));
    RETORT_TRY(const std::string records, formats::json_string(json, "records", std::string()));
    if (!records.empty() && std::filesystem::exists(data::manifest_path(records), code)) {
        RETORT_TRY(card.records.emplace_back(), data::card_records("train", records));
    }
    return card;
}

}  // namespace

Status export_model(const std::filesystem::path& model, const std::string& format, const std::string& type,
                    const std::filesystem::path& output, const std::string& name,
                    const std::string& licence) {
    RETORT_TRY(const tensor::DType dtype, dtype_from_name(type));
    RETORT_TRY(const model::Weights weights, model::load_weights(model));
    RETORT_TRY(const text::TextModel text, text::load_text_model(model));
    const model::Parameters parameters = model::parameters_from(weights);
    if (format == "gguf") {
        RETORT_CHECK(train::save_model_gguf(output, parameters, text, dtype, name, licence));
        return data::save_lineage(output.string() + ".lineage.json", "retort export",
                                  {{"exported-from", model}});
    }
    if (tensor::is_quantised(dtype)) {
        return fail(ErrorCode::invalid_argument, "a safetensors folder cannot hold {}; use f32, f16 or bf16",
                    type);
    }
    RETORT_CHECK(train::save_model_folder(output, parameters, text, dtype));
    return data::save_lineage(output / "lineage.json", "retort export", {{"exported-from", model}});
}

void add_export(Commands& commands) {
    struct Options {
        std::string model;
        std::string format = "gguf";
        std::string type = "q8_0";
        std::string output;
        std::string name;
        std::string licence;
    };
    auto options = std::make_shared<Options>();
    CLI::App& command = commands.add(
        Group::models, "export",
        "write a model for llama.cpp and Ollama (GGUF) or transformers and vLLM (folder)",
        {"retort export student/model --format gguf --type q8_0 --output student.gguf",
         "retort export student/model --format folder --type bf16 --output student-hf"},
        [options](const CommonOptions&) -> Status {
            RETORT_TRY(const std::filesystem::path model, resolve_model(options->model));
            const std::string name = options->name.empty() ? model_display_name(model) : options->name;
            RETORT_CHECK(
                export_model(model, options->format, options->type, options->output, name, options->licence));
            RETORT_TRY(data::ModelCard card, card_of(model));
            card.name = name;
            if (!options->licence.empty()) card.licence = options->licence;
            RETORT_CHECK(write_export_papers(options->output, std::move(card)));
            fmt::print("{}\n", options->output);
            return {};
        });
    command.add_option("model", options->model, "a GGUF file, a folder, or a name under models/")->required();
    command.add_option("--format", options->format, "gguf or folder")
        ->check(CLI::IsMember({"gguf", "folder"}))
        ->capture_default_str();
    command.add_option("--type", options->type, "of the matrices: f32, f16, bf16, q8_0, q4_0 or q4_1")
        ->capture_default_str();
    command.add_option("--output", options->output, "file (gguf) or folder to write")->required();
    command.add_option("--name", options->name, "name written into a GGUF file");
    command.add_option("--licence", options->licence, "SPDX identifier written into a GGUF file");
}

}  // namespace retort::cli
