// report.html while a run goes on: which stage it is at, the losses so far. A browser that has it open loads
// it again every few seconds, until the run ends and the page says how. Knows nothing of what the stages do.
#pragma once

#include <filesystem>
#include <span>
#include <string>

#include "base/result.h"
#include "evaluate/report.h"
#include "train/trainer.h"

namespace retort::cli {

class LiveReport {
  public:
    // No file (`quiet` processes of several): everything does nothing.
    LiveReport(std::filesystem::path file, std::string title, std::string command, std::string recipe);

    // What goes on now, in a sentence.
    void now(const std::string& what);
    // A training begins: its calls go to the page. `key` names its curve.
    void watch(train::TrainOptions& options, const std::string& key, const std::string& name,
               evaluate::Role role, const std::string& objective);
    // A training that was done before: its curve, from metrics.jsonl.
    void show(const std::string& key, const std::string& name, evaluate::Role role,
              const std::string& objective, const std::filesystem::path& metrics);

    // How it is done, for the end of the page.
    void fact(std::string label, std::string value);

    // The end: of a training alone, of a run with its whole report, or of either by an error.
    void done(const std::string& what);
    void done(const evaluate::ComparisonReport& report);
    void failed(const base::Error& error);

  private:
    evaluate::TrainingCurve& curve(const std::string& key, const std::string& name, evaluate::Role role,
                                   const std::string& objective);
    void add(evaluate::TrainingCurve& curve, const train::StepRecord& record);
    void write(bool going_on);
    void write_text(std::string_view html);

    std::filesystem::path file_;
    evaluate::ComparisonReport page_;
    double written_ = -1e9;
    bool warned_ = false;
};

}  // namespace retort::cli
