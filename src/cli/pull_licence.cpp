// Under which licence a folder's or a file's weights are, as far as what lies beside them says.
#include <algorithm>
#include <array>
#include <cctype>

#include "base/file.h"
#include "base/strings.h"
#include "cli/pull.h"
#include "cli/pull_record.h"
#include "data/model_card.h"
#include "data/spdx.h"
#include "formats/gguf.h"

namespace retort::cli {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t most_read = std::size_t{1} << 22U;

std::string text_of_file(const fs::path& path) {
    std::error_code code;
    if (!fs::is_regular_file(path, code)) return {};
    return base::read_file(path, most_read).value_or(std::string());
}

// `license:` of the front matter that hubs read, where it is one word.
std::string from_front_matter(std::string_view text) {
    if (!text.starts_with("---")) return {};
    for (const std::string_view line : base::filled_lines(text.substr(3))) {
        if (line.starts_with("---")) break;
        if (!line.starts_with("license:")) continue;
        std::string_view value = base::trimmed(line.substr(8));
        if (value.size() > 1 && (value.front() == '"' || value.front() == '\''))
            value = value.substr(1, value.size() - 2);
        return std::string(value);
    }
    return {};
}

// By how the common ones begin. Words that only they have; of others nothing is said.
std::string from_licence_text(std::string_view text) {
    std::string words;  // lower-case, one space between two
    for (const char c : text.substr(0, 4096)) {
        const auto byte = static_cast<unsigned char>(c);
        if (std::isspace(byte) != 0) {
            if (!words.empty() && words.back() != ' ') words += ' ';
        } else {
            words += static_cast<char>(std::tolower(byte));
        }
    }
    constexpr std::array<std::pair<std::string_view, std::string_view>, 10> known = {{
        {"apache license version 2.0, january 2004", "Apache-2.0"},
        {"permission is hereby granted, free of charge, to any person obtaining a copy", "MIT"},
        {"gnu affero general public license version 3", "AGPL-3.0-only"},
        {"gnu lesser general public license version 3", "LGPL-3.0-only"},
        {"gnu general public license version 3", "GPL-3.0-only"},
        {"gnu general public license version 2", "GPL-2.0-only"},
        {"mozilla public license version 2.0", "MPL-2.0"},
        {"creative commons attribution-noncommercial 4.0 international", "CC-BY-NC-4.0"},
        {"creative commons attribution 4.0 international", "CC-BY-4.0"},
        {"cc0 1.0 universal", "CC0-1.0"},
    }};
    for (const auto& [phrase, id] : known) {
        if (words.find(phrase) != std::string::npos) return std::string(id);
    }
    return {};
}

}  // namespace

std::string canonical_licence(std::string_view said) {
    const std::string_view name = base::trimmed(said);
    constexpr std::array<std::pair<std::string_view, std::string_view>, 5> of_hubs = {
        {{"llama3.1", "LicenseRef-Llama-Community"},
         {"llama3.2", "LicenseRef-Llama-Community"},
         {"llama3.3", "LicenseRef-Llama-Community"},
         {"llama4", "LicenseRef-Llama-Community"},
         {"gemma", "LicenseRef-Gemma"}}};
    for (const auto& [hub, id] : of_hubs) {
        if (name == hub) return std::string(id);
    }
    // Hubs write identifiers in lower case.
    if (const data::LicenceFacts* facts = data::licence_facts(name); facts != nullptr) {
        const bool same_length =
            facts->id.size() == name.size();  // else it is "GPL-3.0-only", which says more
        return std::string(same_length ? facts->id : name);
    }
    return name == "other" || name == "unknown" ? std::string() : std::string(name);
}

std::string licence_beside(const fs::path& folder, const std::vector<fs::path>& weights) {
    // What a pull or an export of ours wrote down comes first: it is of these very files.
    if (const std::string text = text_of_file(folder / "pull.json"); !text.empty()) {
        const auto record = pull_record_from_json(text);
        if (record && !record->licence.empty()) return record->licence;
    }
    for (const fs::path& file : weights) {
        for (const fs::path& exported : {file, folder}) {
            const auto card = data::read_model_card(exported);
            if (card && !card->licence.empty()) return canonical_licence(card->licence);
        }
    }
    for (const fs::path& file : weights) {
        if (file.extension() != ".gguf") continue;
        const auto gguf = formats::GgufFile::open(file);
        if (!gguf) continue;
        const auto licence = gguf->string_or("general.license", "");
        if (licence && !licence->empty()) {
            if (std::string id = canonical_licence(*licence); !id.empty()) return id;
        }
    }
    if (std::string id = canonical_licence(from_front_matter(text_of_file(folder / "README.md")));
        !id.empty())
        return id;
    for (const char* name : {"LICENSE", "LICENCE", "LICENSE.txt", "LICENCE.txt", "LICENSE.md", "COPYING"}) {
        if (std::string id = from_licence_text(text_of_file(folder / name)); !id.empty()) return id;
    }
    return {};
}

}  // namespace retort::cli
