#include "curate/contamination.h"

#include "base/file.h"
#include "base/hash.h"
#include "curate/filters.h"
#include "data/prompts.h"
#include "data/record.h"

namespace retort::curate {

Status Contamination::read(const std::filesystem::path& path) {
    RETORT_TRY(const std::string text, base::read_file(path));
    const bool records = text.find("\"answer\":{") != std::string::npos;
    if (records) {
        return data::read_records(path, [&](data::Record&& record) -> Status {
            for (const data::Message& message : record.request.messages) {
                if (message.role != "system") add(message.content);
            }
            add(record.content);
            return {};
        });
    }
    RETORT_TRY(const auto prompts, data::read_prompts(path));
    for (const data::Prompt& prompt : prompts) {
        for (const data::Message& message : prompt.messages) {
            if (message.role != "system") add(message.content);
        }
    }
    return {};
}

std::optional<std::string> Contamination::shared(std::string_view text) const {
    const std::vector<std::string> words = words_of(text);
    for (std::size_t i = 0; i + n_ <= words.size(); ++i) {
        if (!grams_.contains(hash(words, i, n_))) continue;
        std::string gram;
        for (std::size_t k = i; k < i + n_; ++k) gram += (gram.empty() ? "" : " ") + words[k];
        return gram;
    }
    // A whole evaluation text shorter than n words counts when it is the whole of this one.
    if (!words.empty() && words.size() < n_ && grams_.contains(hash(words, 0, words.size()))) {
        return std::string(text);
    }
    return std::nullopt;
}

std::uint64_t Contamination::hash(const std::vector<std::string>& words, std::size_t begin,
                                  std::size_t count) {
    std::uint64_t value = count;
    for (std::size_t i = begin; i < begin + count; ++i) value = base::xxh3_64(words[i], value);
    return value;
}

void Contamination::add(std::string_view text) {
    const std::vector<std::string> words = words_of(text);
    if (!words.empty() && words.size() < n_) grams_.insert(hash(words, 0, words.size()));
    for (std::size_t i = 0; i + n_ <= words.size(); ++i) grams_.insert(hash(words, i, n_));
}

}  // namespace retort::curate
