// The frame that every command hangs in: one file command_NAME.cpp for each, which declares its options and
// an action that returns a Status. What an error looks like, and which exit status it gives, is settled here
// once. Knows nothing of what a command does.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace retort::cli {

// Options that every command has.
struct CommonOptions {
    int threads = 0;     // 0: every core
    bool quiet = false;  // no progress, errors only
    bool json = false;   // only for commands that called add_json_option
};

// How `retort --help` groups the commands, in this order.
enum class Group { models, data, training, judging, machine };

class Commands {
  public:
    using Action = std::function<Status(const CommonOptions&)>;

    Commands();

    // Declares a command. `examples` are whole command lines, shown under the options.
    // The returned App lives as long as this object: add options to it, bound to storage that the action
    // shares.
    CLI::App& add(Group group, std::string_view name, std::string_view summary,
                  std::initializer_list<std::string_view> examples, Action action);
    // A command of a command, as in `retort bench peak`; the parent then needs one and its own action is
    // never called.
    CLI::App& add_nested(CLI::App& parent, std::string_view name, std::string_view summary,
                         std::initializer_list<std::string_view> examples, Action action);
    void add_json_option(CLI::App& command);

    // Parses and runs: 0, 1 (failed) or 2 (usage), everything printed.
    int run(int argc, const char* const* argv);

  private:
    struct Entry {
        CLI::App* app;
        Action action;
    };
    void declare(CLI::App* command, std::initializer_list<std::string_view> examples, Action action);
    int run_parsed(const Entry& entry, const std::string& name);
    int report_parse_error(const CLI::ParseError& error) const;
    [[nodiscard]] bool has_command(std::string_view name) const;

    CLI::App app_;
    CommonOptions common_;
    std::vector<Entry> entries_;
};

// 2 for invalid_argument (the command line is wrong), 1 for anything else.
int exit_status(const base::Error& error);

void add_pull(Commands& commands);
void add_chat(Commands& commands);
void add_serve(Commands& commands);
void add_keys(Commands& commands);
void add_guard(Commands& commands);
void add_collect(Commands& commands);
void add_problems(Commands& commands);
void add_curate(Commands& commands);
void add_cache(Commands& commands);
void add_distill(Commands& commands);
void add_eval(Commands& commands);
void add_export(Commands& commands);
void add_run(Commands& commands);
void add_screen(Commands& commands);
void add_screen_provenance(Commands& commands, CLI::App& parent);
void add_release(Commands& commands);
void add_audit(Commands& commands);
void add_bench(Commands& commands);
void add_bench_peak(Commands& commands, CLI::App& bench);
void add_bench_head(Commands& commands, CLI::App& bench);
void add_bench_train(Commands& commands, CLI::App& bench);
void add_bench_tokenize(Commands& commands, CLI::App& bench);
void add_bench_prefill(Commands& commands, CLI::App& bench);
void add_bench_decode(Commands& commands, CLI::App& bench);
void add_bench_speculate(Commands& commands, CLI::App& bench);
void add_bench_batch(Commands& commands, CLI::App& bench);
void add_bench_load(Commands& commands, CLI::App& bench);

}  // namespace retort::cli
