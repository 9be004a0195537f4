// What goes beside an exported model: its card (data/model_card.h) and, for a GGUF file, Ollama's Modelfile.
#pragma once

#include <filesystem>
#include <vector>

#include "base/result.h"
#include "data/model_card.h"
#include "evaluate/report.h"

namespace retort::cli {

// The rows of a report that a card shows: quality, size and speed of every model that was compared.
std::vector<data::CardFigure> card_figures(const evaluate::ComparisonReport& report);

// FILE.gguf.Modelfile, for `ollama create NAME -f FILE.gguf.Modelfile`.
Status write_modelfile(const std::filesystem::path& gguf);

// The card, and the Modelfile where `exported` is a file. Program and date are set here.
Status write_export_papers(const std::filesystem::path& exported, data::ModelCard card);

}  // namespace retort::cli
