// A model card: what a student was made of and what was measured, as JSON that programs check
// (docs/formats/model_card.md) and as the README.md that people read. Written beside every export and into
// every release; read by whatever audits or releases one. Knows no weights.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace retort::data {

// A set of records that the student was trained on, chosen by, or measured on.
struct CardRecords {
    std::string use;  // train, validation, test
    std::int64_t records = 0;
    std::string merkle_root;
    std::vector<std::string> parents;              // roots of what they were curated from
    std::map<std::string, std::int64_t> teachers;  // model → records
    std::map<std::string, std::string> terms;      // id → SHA-256 of the terms kept with the data
    bool operator==(const CardRecords&) const = default;
};

struct CardFigure {
    std::string model;   // "Student distilled"
    std::string metric;  // "Held-out NLL"
    std::string value;   // "3.87 nats per token"
    std::string interval;
    bool operator==(const CardFigure&) const = default;
};

// Of a release: where it comes from, and what the gate said.
struct CardSource {
    std::string name;
    std::string used_as;  // teacher, start, records
    std::int64_t records = 0;
    std::string licence;  // empty: unknown
    std::string terms;
    std::string merkle_root;
    bool operator==(const CardSource&) const = default;
};
struct CardItem {
    std::string what;
    std::string value;
    std::string interval;
    std::string bound;
    bool holds = false;
    bool operator==(const CardItem&) const = default;
};

struct CardFile {
    std::string name;  // relative to the folder of the card
    std::int64_t bytes = 0;
    std::string sha256;
    bool operator==(const CardFile&) const = default;
};

struct ModelCard {
    std::string name;
    std::string licence;  // SPDX, as the teacher's; empty: not known
    std::string teacher;
    std::string teacher_files;  // "name:sha256 …"
    std::string training;       // "fkl on the teacher's answers, after traces"
    std::string recipe_sha256;
    std::string program;  // name and version
    std::string date;     // UTC
    std::vector<CardRecords> records;
    std::vector<CardFigure> figures;
    std::vector<CardFile> files;
    // Of a release; empty on an export.
    std::string model_sha256;
    std::vector<CardSource> sources;
    std::vector<std::string> missing;
    std::vector<std::string> objections;
    std::vector<std::string> duties;
    std::vector<CardItem> items;
    bool operator==(const ModelCard&) const = default;
};

std::string model_card_json(const ModelCard& card);
Result<ModelCard> parse_model_card(std::string_view text, std::string_view name = "provenance.json");
// README.md: front matter as Hugging Face reads it, then the same facts.
std::string model_card_markdown(const ModelCard& card);

// Where the card of an export lies: FOLDER/provenance.json and README.md; FILE.gguf.provenance.json and
// FILE.gguf.md.
std::filesystem::path card_path(const std::filesystem::path& exported);
Result<ModelCard> read_model_card(const std::filesystem::path& exported);
// Hashes the export's files into the card and writes both forms.
Status write_model_card(const std::filesystem::path& exported, ModelCard card);
// Every file that the card names has its very bytes; the message says which has not.
Status check_model_card(const std::filesystem::path& exported);

// What the manifest beside a records file says of it.
Result<CardRecords> card_records(std::string use, const std::filesystem::path& records);

}  // namespace retort::data
