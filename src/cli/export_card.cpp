#include "cli/export_card.h"

#include <array>

#include "base/clock.h"
#include "base/file.h"
#include "formats/json.h"
#include "text/text_model.h"
#include "train/text_examples.h"

namespace retort::cli {

namespace fs = std::filesystem;

std::vector<data::CardFigure> card_figures(const evaluate::ComparisonReport& report) {
    constexpr std::array<std::string_view, 7> shown = {"nll",  "kl",    "agreement",        "ece",
                                                       "task", "bytes", "tokens_per_second"};
    std::vector<data::CardFigure> figures;
    for (const evaluate::ModelEntry& model : report.models) {
        for (const std::string_view key : shown) {
            const evaluate::MetricInfo* metric = evaluate::find_metric(report, key);
            const auto value = model.values.find(std::string(key));
            if (metric == nullptr || value == model.values.end()) continue;
            std::string text = evaluate::format_value(*metric, value->second.value);
            if (!metric->unit.empty()) text += " " + metric->unit;
            figures.push_back(
                {model.name, metric->name, text, evaluate::format_interval(*metric, value->second)});
        }
    }
    return figures;
}

Status write_modelfile(const fs::path& gguf) {
    RETORT_TRY(const text::TextModel text, text::load_text_model(gguf));
    std::string file = "FROM ./" + gguf.filename().string() + "\n";
    // Ollama's templates are Go's, not Jinja: written only where ours is plain ChatML, and else left to what
    // Ollama finds in the GGUF file.
    const std::vector<data::Message> messages = {{"system", "S", ""}, {"user", "U", ""}};
    const auto rendered = train::chat_renderer(text)(messages, true);
    constexpr std::string_view chatml =
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n";
    if (rendered && *rendered == chatml) {
        file +=
            "TEMPLATE \"\"\"{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end "
            "}}<|im_start|>assistant\n\"\"\"\n";
    } else {
        file += "# The chat template is the GGUF file's own (tokenizer.chat_template).\n";
    }
    for (const std::int32_t id : text.end_of_turn_tokens) {
        const std::array<std::int32_t, 1> one = {id};
        file += "PARAMETER stop " + formats::Json(text.tokenizer.decode(one)).dump() + "\n";
    }
    return base::write_file_atomic(gguf.string() + ".Modelfile", std::string_view(file));
}

Status write_export_papers(const fs::path& exported, data::ModelCard card) {
    card.program = "retort " RETORT_VERSION;
    card.date = base::utc_now();
    // Said again it keeps its date, so that the folder keeps its hash.
    if (const auto before = data::read_model_card(exported)) {
        data::ModelCard same = *before;
        same.date = card.date;
        same.files.clear();
        card.files.clear();
        if (same == card) card.date = before->date;
    }
    std::error_code code;
    if (!fs::is_directory(exported, code)) RETORT_CHECK(write_modelfile(exported));
    return data::write_model_card(exported, std::move(card));
}

}  // namespace retort::cli
