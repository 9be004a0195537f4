#include "cli/package_index.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

namespace retort::cli {

namespace {

char lower(char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
}

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

std::string html_unescaped(std::string_view text) {
    static constexpr std::array<std::pair<std::string_view, char>, 6> entities = {
        {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&#39;", '\''}, {"&#x27;", '\''}}};
    std::string out;
    while (!text.empty()) {
        const auto found = std::find_if(entities.begin(), entities.end(), [&](const auto& entity) {
            return text.substr(0, entity.first.size()) == entity.first;
        });
        if (found == entities.end()) {
            out += text.front();
            text.remove_prefix(1);
        } else {
            out += found->second;
            text.remove_prefix(found->first.size());
        }
    }
    return out;
}

// Attributes of one start tag, after its name; names in lower case.
std::vector<std::pair<std::string, std::string>> attributes_of(std::string_view tag) {
    std::vector<std::pair<std::string, std::string>> attributes;
    std::size_t at = 0;
    const auto is_space = [](char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '/'; };
    while (at < tag.size()) {
        while (at < tag.size() && is_space(tag[at])) ++at;
        std::string name;
        while (at < tag.size() && tag[at] != '=' && !is_space(tag[at])) name += lower(tag[at++]);
        std::string value;
        if (at < tag.size() && tag[at] == '=') {
            ++at;
            if (at < tag.size() && (tag[at] == '"' || tag[at] == '\'')) {
                const std::size_t end = std::min(tag.find(tag[at], at + 1), tag.size());
                value = html_unescaped(tag.substr(at + 1, end - at - 1));
                at = std::min(end + 1, tag.size());
            } else {
                while (at < tag.size() && !is_space(tag[at])) value += tag[at++];
            }
        }
        if (!name.empty()) attributes.emplace_back(std::move(name), std::move(value));
    }
    return attributes;
}

// Where the tag that starts at `begin` ends: a '>' outside quotes.
std::size_t tag_end(std::string_view html, std::size_t begin) {
    char quote = 0;
    for (std::size_t i = begin; i < html.size(); ++i) {
        if (quote != 0) {
            if (html[i] == quote) quote = 0;
        } else if (html[i] == '"' || html[i] == '\'') {
            quote = html[i];
        } else if (html[i] == '>') {
            return i;
        }
    }
    return std::string_view::npos;
}

std::vector<IndexFile> parse_html(std::string_view html) {
    std::vector<IndexFile> files;
    std::size_t at = 0;
    while ((at = html.find('<', at)) != std::string_view::npos) {
        const std::size_t end = tag_end(html, at + 1);
        if (end == std::string_view::npos) break;
        const std::string_view tag = html.substr(at + 1, end - at - 1);
        at = end + 1;
        const bool anchor =
            tag.size() > 2 && lower(tag[0]) == 'a' && (tag[1] == ' ' || tag[1] == '\n' || tag[1] == '\t');
        if (!anchor) continue;
        IndexFile file;
        for (auto& [name, value] : attributes_of(tag.substr(1))) {
            if (name == "href") file.url = std::move(value);
            if (name == "data-yanked") file.yanked = true;
        }
        const std::size_t fragment = file.url.find('#');
        if (fragment != std::string::npos) {
            const std::string hash = file.url.substr(fragment + 1);
            if (hash.rfind("sha256=", 0) == 0) file.sha256 = hash.substr(7, 64);
            file.url.resize(fragment);
        }
        const std::string path = file.url.substr(0, file.url.find('?'));
        file.filename = path.substr(path.rfind('/') + 1);
        if (!file.filename.empty()) files.push_back(std::move(file));
    }
    return files;
}

Result<std::vector<IndexFile>> parse_json(std::string_view text) {
    try {
        const auto json = nlohmann::json::parse(text);
        std::vector<IndexFile> files;
        for (const auto& entry : json.at("files")) {
            IndexFile file;
            entry.at("filename").get_to(file.filename);
            entry.at("url").get_to(file.url);
            if (const auto hashes = entry.find("hashes"); hashes != entry.end() && hashes->is_object()) {
                if (const auto hash = hashes->find("sha256"); hash != hashes->end())
                    hash->get_to(file.sha256);
            }
            if (const auto yanked = entry.find("yanked"); yanked != entry.end()) {
                file.yanked = yanked->is_string() || (yanked->is_boolean() && yanked->get<bool>());
            }
            files.push_back(std::move(file));
        }
        return files;
    } catch (const nlohmann::json::exception& error) {
        return fail(ErrorCode::format, "the index's answer is not a list of files: {}", error.what());
    }
}

// A version as numbers that compare in PEP 440's order: epoch, release, then what the suffix says.
struct Version {
    std::uint64_t epoch = 0;
    std::vector<std::uint64_t> release;
    // dev < a < b < rc < none < post; without a pre-release, ".dev" alone comes before "a".
    int stage = 0;
    std::uint64_t stage_number = 0;
    std::uint64_t post = 0;
    bool has_post = false;
    std::uint64_t dev = ~std::uint64_t{0};  // none is after any

    bool operator<(const Version& other) const {
        return std::tie(epoch, release, stage, stage_number, has_post, post, dev) <
               std::tie(other.epoch, other.release, other.stage, other.stage_number, other.has_post,
                        other.post, other.dev);
    }
};

constexpr int stage_dev = -4;
constexpr int stage_alpha = -3;
constexpr int stage_beta = -2;
constexpr int stage_candidate = -1;

class VersionReader {
  public:
    explicit VersionReader(std::string_view text) : text_(text.substr(0, text.find('+'))) {}

    Version read() {
        Version version;
        skip_word("v");
        const std::size_t bang = text_.find('!');
        if (bang != std::string_view::npos) {
            version.epoch = number();
            text_.remove_prefix(std::min<std::size_t>(1, text_.size()));
        }
        while (!text_.empty() && is_digit(text_[0])) {
            version.release.push_back(number());
            if (text_.size() > 1 && text_[0] == '.' && is_digit(text_[1])) text_.remove_prefix(1);
        }
        while (!version.release.empty() && version.release.back() == 0) version.release.pop_back();
        while (!text_.empty()) {
            if (text_[0] == '.' || text_[0] == '-' || text_[0] == '_') {
                text_.remove_prefix(1);
                if (!text_.empty() && is_digit(text_[0])) {  // "1.0-1" is a post-release
                    version.has_post = true;
                    version.post = number();
                }
            } else if (skip_word("post") || skip_word("rev")) {
                version.has_post = true;
                version.post = number();
            } else if (skip_word("dev")) {
                version.dev = number();
                if (version.stage == 0 && !version.has_post) version.stage = stage_dev;
            } else if (skip_word("alpha") || skip_word("a")) {
                version.stage = stage_alpha;
                version.stage_number = number();
            } else if (skip_word("beta") || skip_word("b")) {
                version.stage = stage_beta;
                version.stage_number = number();
            } else if (skip_word("rc") || skip_word("c") || skip_word("preview") || skip_word("pre")) {
                version.stage = stage_candidate;
                version.stage_number = number();
            } else {
                break;
            }
        }
        return version;
    }

  private:
    std::uint64_t number() {
        while (!text_.empty() && (text_[0] == '.' || text_[0] == '-' || text_[0] == '_') &&
               text_.size() > 1 && is_digit(text_[1])) {
            text_.remove_prefix(1);
        }
        std::uint64_t value = 0;
        while (!text_.empty() && is_digit(text_[0])) {
            value = value * 10 + static_cast<std::uint64_t>(text_[0] - '0');
            text_.remove_prefix(1);
        }
        return value;
    }
    bool skip_word(std::string_view word) {
        if (text_.size() < word.size()) return false;
        for (std::size_t i = 0; i < word.size(); ++i) {
            if (lower(text_[i]) != word[i]) return false;
        }
        text_.remove_prefix(word.size());
        return true;
    }
    std::string_view text_;
};

bool has_suffix(std::string_view text, std::string_view suffix) {
    return text.size() >= suffix.size() && text.substr(text.size() - suffix.size()) == suffix;
}

}  // namespace

Result<std::vector<IndexFile>> parse_index_page(std::string_view body, std::string_view content_type) {
    if (content_type.find("json") != std::string_view::npos) return parse_json(body);
    return parse_html(body);
}

std::string normalised_package_name(std::string_view name) {
    std::string out;
    for (const char c : name) {
        const bool separator = c == '-' || c == '_' || c == '.';
        if (!separator) {
            out += lower(c);
        } else if (out.empty() || out.back() != '-') {
            out += '-';
        }
    }
    return out;
}

std::optional<std::string> wheel_version(std::string_view filename, std::string_view project) {
    if (!has_suffix(filename, ".whl")) return std::nullopt;
    const std::size_t name_end = filename.find('-');
    if (name_end == std::string_view::npos) return std::nullopt;
    const std::size_t version_end = filename.find('-', name_end + 1);
    if (version_end == std::string_view::npos) return std::nullopt;
    if (normalised_package_name(filename.substr(0, name_end)) != normalised_package_name(project))
        return std::nullopt;
    return std::string(filename.substr(name_end + 1, version_end - name_end - 1));
}

int compare_versions(std::string_view a, std::string_view b) {
    const Version left = VersionReader(a).read();
    const Version right = VersionReader(b).read();
    if (left < right) return -1;
    return right < left ? 1 : 0;
}

bool is_prerelease(std::string_view version) {
    const Version parsed = VersionReader(version).read();
    return parsed.stage != 0 || parsed.dev != ~std::uint64_t{0};
}

Result<IndexFile> choose_wheel(const std::vector<IndexFile>& files, std::string_view project,
                               std::string_view version) {
    const IndexFile* best = nullptr;
    std::string best_version;
    std::string seen;
    for (const IndexFile& file : files) {
        const auto has = wheel_version(file.filename, project);
        if (!has) continue;
        seen += (seen.empty() ? "" : ", ") + *has;
        if (version.empty() ? file.yanked || is_prerelease(*has) : compare_versions(*has, version) != 0)
            continue;
        const int newer = best == nullptr ? 1 : compare_versions(*has, best_version);
        const bool broader = best != nullptr && newer == 0 && has_suffix(file.filename, "-none-any.whl") &&
                             !has_suffix(best->filename, "-none-any.whl");
        if (newer > 0 || broader) {
            best = &file;
            best_version = *has;
        }
    }
    if (best != nullptr) return *best;
    if (seen.empty()) return fail(ErrorCode::not_found, "{}: the index has no wheel of it", project);
    return fail(ErrorCode::not_found, "{}{}{}: the index has no such wheel; it has {}", project,
                version.empty() ? "" : "==", version, seen.size() > 400 ? seen.substr(0, 400) + "…" : seen);
}

}  // namespace retort::cli
