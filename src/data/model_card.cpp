#include "data/model_card.h"

#include <algorithm>
#include <cctype>

#include "base/file.h"
#include "base/hash.h"
#include "data/manifest.h"
#include "data/spdx.h"
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

Json source_json(const CardSource& source) {
    return {{"name", source.name},       {"used_as", source.used_as}, {"records", source.records},
            {"licence", source.licence}, {"terms", source.terms},     {"merkle_root", source.merkle_root}};
}

Json item_json(const CardItem& item) {
    return {{"what", item.what},
            {"value", item.value},
            {"interval", item.interval},
            {"bound", item.bound},
            {"holds", item.holds}};
}

// What only a release has; an export's card has no such members.
void add_release(const ModelCard& card, Json& json) {
    if (!card.model_sha256.empty()) json["model_sha256"] = card.model_sha256;
    for (const CardSource& source : card.sources) json["sources"].push_back(source_json(source));
    for (const CardItem& item : card.items) json["items"].push_back(item_json(item));
    if (!card.missing.empty()) json["missing"] = card.missing;
    if (!card.objections.empty()) json["objections"] = card.objections;
    if (!card.duties.empty()) json["duties"] = card.duties;
}

void read_release(const Json& json, ModelCard& card) {
    card.model_sha256 = json.value("model_sha256", "");
    for (const Json& source : json.value("sources", Json::array())) {
        card.sources.push_back({source.at("name").get<std::string>(), source.value("used_as", ""),
                                source.value("records", std::int64_t{0}), source.value("licence", ""),
                                source.value("terms", ""), source.value("merkle_root", "")});
    }
    for (const Json& item : json.value("items", Json::array())) {
        card.items.push_back({item.at("what").get<std::string>(), item.value("value", ""),
                              item.value("interval", ""), item.value("bound", ""),
                              item.value("holds", false)});
    }
    card.missing = json.value("missing", card.missing);
    card.objections = json.value("objections", card.objections);
    card.duties = json.value("duties", card.duties);
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

// The hub knows single licences by their identifier in lower case; anything else is "other", and told in
// words.
std::string front_matter(const std::string& licence) {
    std::string text = "---\n";
    const auto expression = parse_spdx(licence);
    const bool single = expression && expression->nodes.size() == 1 && !licence.starts_with("LicenseRef");
    if (single) {
        std::string id = licence;
        std::transform(id.begin(), id.end(), id.begin(),
                       [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
        text += "license: " + id + "\n";
    } else if (!licence.empty()) {
        text += "license: other\nlicense_name: " + yaml_text(licence) + "\n";
    }
    return text + "pipeline_tag: text-generation\ntags: [distillation, retort]\n---\n";
}

std::string list_text(std::string_view title, const std::vector<std::string>& lines) {
    std::string text;
    for (const std::string& line : lines) text += "- " + line + "\n";
    return lines.empty() ? text : fmt::format("\n## {}\n\n{}", title, text);
}

std::string release_text(const ModelCard& card) {
    std::string text;
    if (!card.sources.empty()) {
        text +=
            "\n## Its sources\n| source | used as | records | licence | terms | Merkle root |\n"
            "|---|---|---|---|---|---|\n";
    }
    for (const CardSource& source : card.sources) {
        text += fmt::format("| {} | {} | {} | {} | {} | {} |\n", cell(source.name), cell(source.used_as),
                            source.records > 0 ? std::to_string(source.records) : "",
                            source.licence.empty() ? "unknown" : cell(source.licence), cell(source.terms),
                            source.merkle_root.empty() ? "" : "`" + source.merkle_root + "`");
    }
    text += list_text("What is missing", card.missing);
    text += list_text("What stands against its use", card.objections);
    text += list_text("What passing it on asks for", card.duties);
    if (!card.items.empty())
        text += "\n## What it was released on\n| item | value | 95 % | bound | |\n|---|---|---|---|---|\n";
    for (const CardItem& item : card.items) {
        text += fmt::format("| {} | {} | {} | {} | {} |\n", cell(item.what), cell(item.value),
                            cell(item.interval), cell(item.bound), item.holds ? "holds" : "does not hold");
    }
    return text;
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
    add_release(card, json);
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
        read_release(json, card);
        return card;
    } catch (const Json::exception& error) {
        return fail(ErrorCode::format, "{}: {}", name, error.what());
    }
}

std::string model_card_markdown(const ModelCard& card) {
    std::string text = front_matter(card.licence) + "# " + cell(card.name) + "\n";
    if (!card.model_sha256.empty()) text += "SHA-256 `" + card.model_sha256 + "`.\n";
    if (!card.teacher.empty())
        text += "A student of " + cell(card.teacher) + ", made by " + card.program + ".\n";
    if (!card.training.empty()) text += "Trained by " + cell(card.training) + ".\n";
    if (!card.figures.empty())
        text += "\n## Measured on held-out records\n| model | measure | value | 95 % |\n|---|---|---|---|\n";
    for (const CardFigure& figure : card.figures) {
        text += fmt::format("| {} | {} | {} | {} |\n", cell(figure.model), cell(figure.metric),
                            cell(figure.value), cell(figure.interval));
    }
    text += release_text(card);
    if (card.sources.empty() || !card.records.empty()) text += "\n## What it was made of\n";
    if (card.records.empty() && card.sources.empty())
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
    if (!card.files.empty()) text += "\n## Files\n| file | bytes | SHA-256 |\n|---|---|---|\n";
    for (const CardFile& file : card.files)
        text += fmt::format("| {} | {} | `{}` |\n", cell(file.name), file.bytes, file.sha256);
    if (!card.date.empty()) text += fmt::format("\nWritten {}.\n", card.date);
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
