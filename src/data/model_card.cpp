#include "data/model_card.h"

#include <algorithm>

#include "base/file.h"
#include "base/hash.h"
#include "data/manifest.h"
#include "formats/json.h"

namespace retort::data {

namespace fs = std::filesystem;
using formats::Json;

namespace {

constexpr int card_version = 1;

bool is_card(const std::string& name) {
    return name == "provenance.json" || name == "README.md";
}

Result<std::vector<fs::path>> exported_files(const fs::path& exported) {
    std::error_code code;
    if (!fs::is_directory(exported, code)) return std::vector<fs::path>{exported};
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(exported, code)) {
        const std::string name = entry.path().filename().string();
        if (entry.is_regular_file() && !is_card(name) && name[0] != '.') files.push_back(entry.path());
    }
    if (code) return fail(ErrorCode::io, "{}: cannot list the folder: {}", exported.string(), code.message());
    std::sort(files.begin(), files.end());
    return files;
}

Result<CardFile> card_file(const fs::path& file) {
    std::error_code code;
    CardFile card;
    card.name = file.filename().string();
    card.bytes = static_cast<std::int64_t>(fs::file_size(file, code));
    RETORT_TRY(const base::Sha256 hash, base::sha256_file(file));
    card.sha256 = base::to_hex(hash);
    return card;
}

Json records_json(const CardRecords& records) {
    return {
        {"use", records.use},         {"records", records.records},   {"merkle_root", records.merkle_root},
        {"parents", records.parents}, {"teachers", records.teachers}, {"terms", records.terms}};
}

// Members that are not there keep what the structure has; those of another type are errors (nlohmann throws).
CardRecords records_from(const Json& json) {
    CardRecords records;
    records.use = json.at("use").get<std::string>();
    records.records = json.at("records").get<std::int64_t>();
    records.merkle_root = json.at("merkle_root").get<std::string>();
    records.parents = json.value("parents", records.parents);
    records.teachers = json.value("teachers", records.teachers);
    records.terms = json.value("terms", records.terms);
    return records;
}

// A cell of a table: one line, its own bars apart.
std::string cell(std::string text) {
    for (char& c : text)
        if (c == '\n' || c == '\r' || c == '|') c = ' ';
    return text;
}

std::string yaml_text(const std::string& text) {
    return Json(text).dump();
}

}  // namespace

std::string model_card_json(const ModelCard& card) {
    Json json = {{"retort_model_card", card_version},
                 {"name", card.name},
                 {"licence", card.licence},
                 {"teacher", card.teacher},
                 {"teacher_files", card.teacher_files},
                 {"training", card.training},
                 {"recipe_sha256", card.recipe_sha256},
                 {"program", card.program},
                 {"date", card.date},
                 {"records", Json::array()},
                 {"figures", Json::array()},
                 {"files", Json::array()}};
    for (const CardRecords& records : card.records) json["records"].push_back(records_json(records));
    for (const CardFigure& figure : card.figures) {
        json["figures"].push_back({{"model", figure.model},
                                   {"metric", figure.metric},
                                   {"value", figure.value},
                                   {"interval", figure.interval}});
    }
    for (const CardFile& file : card.files)
        json["files"].push_back({{"name", file.name}, {"bytes", file.bytes}, {"sha256", file.sha256}});
    return json.dump(2) + "\n";
}

Result<ModelCard> parse_model_card(std::string_view text, std::string_view name) {
    RETORT_TRY(const Json json, formats::parse_json(text, name));
    if (!json.is_object() || !json.contains("retort_model_card") || json["retort_model_card"] != card_version)
        return fail(ErrorCode::format, "{}: no model card of version {}", name, card_version);
    try {
        ModelCard card;
        card.name = json.at("name").get<std::string>();
        card.licence = json.value("licence", "");
        card.teacher = json.value("teacher", "");
        card.teacher_files = json.value("teacher_files", "");
        card.training = json.value("training", "");
        card.recipe_sha256 = json.value("recipe_sha256", "");
        card.program = json.value("program", "");
        card.date = json.value("date", "");
        for (const Json& records : json.at("records")) card.records.push_back(records_from(records));
        for (const Json& figure : json.at("figures")) {
            card.figures.push_back({figure.at("model").get<std::string>(),
                                    figure.at("metric").get<std::string>(),
                                    figure.at("value").get<std::string>(), figure.value("interval", "")});
        }
        for (const Json& file : json.at("files")) {
            card.files.push_back({file.at("name").get<std::string>(), file.at("bytes").get<std::int64_t>(),
                                  file.at("sha256").get<std::string>()});
        }
        return card;
    } catch (const Json::exception& error) {
        return fail(ErrorCode::format, "{}: {}", name, error.what());
    }
}

std::string model_card_markdown(const ModelCard& card) {
    std::string text = "---\n";
    if (!card.licence.empty()) text += "license: " + yaml_text(card.licence) + "\n";
    text += "pipeline_tag: text-generation\ntags: [distillation, retort]\n---\n# " + cell(card.name) + "\n";
    if (!card.teacher.empty())
        text += "A student of " + cell(card.teacher) + ", made by " + card.program + ".\n";
    if (!card.training.empty()) text += "Trained by " + cell(card.training) + ".\n";
    if (!card.figures.empty())
        text += "\n## Measured on held-out records\n| model | measure | value | 95 % |\n|---|---|---|---|\n";
    for (const CardFigure& figure : card.figures) {
        text += fmt::format("| {} | {} | {} | {} |\n", cell(figure.model), cell(figure.metric),
                            cell(figure.value), cell(figure.interval));
    }
    text += "\n## What it was made of\n";
    if (card.records.empty())
        text += "The records it was trained on are not known to the program that exported it.\n";
    for (const CardRecords& records : card.records) {
        text += fmt::format("- {}: {} records, Merkle root `{}`", records.use, records.records,
                            records.merkle_root);
        for (const std::string& parent : records.parents) text += fmt::format(", curated from `{}`", parent);
        for (const auto& [teacher, count] : records.teachers)
            text += fmt::format("; {} by {}", count, teacher);
        for (const auto& [id, hash] : records.terms) text += fmt::format("; terms {} `{}`", id, hash);
        text += "\n";
    }
    if (!card.teacher_files.empty()) text += "- the teacher's files: `" + card.teacher_files + "`\n";
    if (!card.recipe_sha256.empty()) text += "- the recipe: SHA-256 `" + card.recipe_sha256 + "`\n";
    text += "\n## Files\n| file | bytes | SHA-256 |\n|---|---|---|\n";
    for (const CardFile& file : card.files)
        text += fmt::format("| {} | {} | `{}` |\n", cell(file.name), file.bytes, file.sha256);
    text += fmt::format("\nWritten {}.\n", card.date);
    return text;
}

fs::path card_path(const fs::path& exported) {
    std::error_code code;
    if (fs::is_directory(exported, code)) return exported / "provenance.json";
    return exported.string() + ".provenance.json";
}

Result<ModelCard> read_model_card(const fs::path& exported) {
    const fs::path path = card_path(exported);
    RETORT_TRY(const std::string text, base::read_file(path, std::size_t{1} << 24U));
    return parse_model_card(text, path.string());
}

Status write_model_card(const fs::path& exported, ModelCard card) {
    RETORT_TRY(const std::vector<fs::path> files, exported_files(exported));
    card.files.clear();
    for (const fs::path& file : files) {
        RETORT_TRY(card.files.emplace_back(), card_file(file));
    }
    std::error_code code;
    const fs::path readable =
        fs::is_directory(exported, code) ? exported / "README.md" : fs::path(exported.string() + ".md");
    RETORT_CHECK(base::write_file_atomic(readable, std::string_view(model_card_markdown(card))));
    return base::write_file_atomic(card_path(exported), std::string_view(model_card_json(card)));
}

Status check_model_card(const fs::path& exported) {
    RETORT_TRY(const ModelCard card, read_model_card(exported));
    if (card.files.empty())
        return fail(ErrorCode::format, "{}: the card names no file", card_path(exported).string());
    for (const CardFile& file : card.files) {
        if (file.name.find('/') != std::string::npos)
            return fail(ErrorCode::format, "{}: \"{}\" is no plain name", card_path(exported).string(),
                        file.name);
        const fs::path path = card_path(exported).parent_path() / file.name;
        RETORT_TRY(const CardFile now, card_file(path));
        if (now.sha256 != file.sha256) {
            return fail(ErrorCode::format, "{}: its SHA-256 is {}, and its card's {}", path.string(),
                        now.sha256, file.sha256);
        }
    }
    return {};
}

Result<CardRecords> card_records(std::string use, const fs::path& records) {
    RETORT_TRY(const Manifest manifest, read_manifest(manifest_path(records)));
    return CardRecords{std::move(use),   manifest.records,  manifest.merkle_root,
                       manifest.parents, manifest.teachers, manifest.terms};
}

}  // namespace retort::data
