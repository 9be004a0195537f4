#include "cli/commands.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <exception>

#include "base/cpu.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/parallel.h"
#include "base/strings.h"
#include "cli/help.h"
#include "train/communicator.h"

namespace retort::cli {

namespace {

std::string_view group_title(Group group) {
    switch (group) {
        case Group::models:
            return "Models";
        case Group::data:
            return "Data";
        case Group::training:
            return "Training";
        case Group::judging:
            return "Judging";
        case Group::machine:
            return "Machine";
    }
    return "Commands";
}

const CLI::App* innermost_of(const CLI::App& app, std::string& path) {
    const CLI::App* innermost = &app;
    while (!innermost->get_subcommands().empty()) {
        innermost = innermost->get_subcommands().front();
        path += (path.empty() ? "" : " ") + innermost->get_name();
    }
    return innermost;
}

std::string trimmed(std::string text) {
    while (!text.empty() && text.back() == '\n') text.pop_back();
    // CLI11 leaves two empty lines between sections.
    for (std::size_t at = text.find("\n\n\n"); at != std::string::npos; at = text.find("\n\n\n"))
        text.erase(at, 1);
    return text;
}

void print_error(std::string_view command, std::string_view message) {
    if (command.empty()) {
        fmt::print(stderr, "retort: {}\n", message);
    } else {
        fmt::print(stderr, "retort {}: {}\n", command, message);
    }
}

}  // namespace

int exit_status(const base::Error& error) {
    return error.code == ErrorCode::invalid_argument ? 2 : 1;
}

Commands::Commands()
    : app_(
          "Distils a large language model into a small one that you own: ask a teacher, keep its answers, "
          "train a student on them and on the teacher's distribution, compare, and ship it.",
          "retort") {
    app_.formatter(make_help_formatter());
    app_.set_version_flag("--version", std::string("retort ") + RETORT_VERSION, "print the version");
    app_.set_help_flag("-h,--help", "print this text");
    app_.footer("`retort COMMAND --help` explains a command. Exit status: 0, 1 (failed), 2 (wrong usage).");
    app_.require_subcommand(0, 1);
}

void Commands::declare(CLI::App* command, std::initializer_list<std::string_view> examples, Action action) {
    command->option_defaults()->always_capture_default();
    if (examples.size() != 0) {
        std::string footer = "Examples:";
        for (const std::string_view example : examples) footer += fmt::format("\n  {}", example);
        command->footer(footer);
    }
    command->set_help_flag("-h,--help", "print this text");
    command->add_option("--threads", common_.threads, "threads to use; 0: every core")
        ->type_name("N")
        ->check(CLI::Range(0, 4096));
    command->add_flag("-q,--quiet", common_.quiet, "no progress; errors and results only");
    entries_.push_back({command, std::move(action)});
}

CLI::App& Commands::add(Group group, std::string_view name, std::string_view summary,
                        std::initializer_list<std::string_view> examples, Action action) {
    CLI::App* command = app_.add_subcommand(std::string(name), std::string(summary));
    command->group(std::string(group_title(group)));
    declare(command, examples, std::move(action));
    return *command;
}

CLI::App& Commands::add_nested(CLI::App& parent, std::string_view name, std::string_view summary,
                               std::initializer_list<std::string_view> examples, Action action) {
    CLI::App* command = parent.add_subcommand(std::string(name), std::string(summary));
    command->group("Commands");
    parent.require_subcommand(1);
    declare(command, examples, std::move(action));
    return *command;
}

void Commands::add_json_option(CLI::App& command) {
    command.add_flag("--json", common_.json, "print the result as JSON on standard output");
}

bool Commands::has_command(std::string_view name) const {
    const auto named = app_.get_subcommands([&](const CLI::App* app) { return app->get_name() == name; });
    return !named.empty();
}

int Commands::report_parse_error(const CLI::ParseError& error) const {
    std::string command;
    const CLI::App* innermost = innermost_of(app_, command);
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) {
        // The exceptions that stand for --help and --version.
        fmt::print("{}\n", error.get_name() == "CallForVersion" ? std::string(error.what())
                                                                : trimmed(innermost->help()));
        return 0;
    }
    print_error(command, fmt::format("{}\nSee `retort {}{}--help`.", error.what(), command,
                                     command.empty() ? "" : " "));
    return 2;
}

int Commands::run_parsed(const Entry& entry, const std::string& name) {
    base::install_logging();
    if (common_.quiet) spdlog::set_level(spdlog::level::err);
    base::install_interrupt_handler();
    if (const Status isa = base::check_isa_environment(); !isa) {
        print_error(name, isa.error().message);
        return 2;
    }
    if (common_.threads > 0) base::set_thread_count(common_.threads);

    Status status;
    try {
        status = entry.action(common_);
    } catch (const std::bad_alloc&) {
        status = fail(ErrorCode::internal, "out of memory");
    } catch (const std::exception& error) {
        status =
            fail(ErrorCode::internal, "unexpected exception: {} (a defect: please report it)", error.what());
    }
    if (std::fflush(stdout) != 0 && status) status = fail(ErrorCode::io, "cannot write to standard output");
    if (status) return 0;
    print_error(name, status.error().message);
    // Of several processes the others wait for this one. A run that was stopped is stopped in all of them.
    if (status.error().code != ErrorCode::cancelled) train::abandon_world();
    return exit_status(status.error());
}

int Commands::run(int argc, const char* const* argv) {
    std::vector<std::string> arguments(argv + std::min(argc, 1), argv + argc);
    if (arguments.empty()) {
        fmt::print(stderr, "{}\n", trimmed(app_.help()));
        return 2;
    }
    // `retort help NAME` is what many people type first.
    if (arguments[0] == "help") {
        arguments.erase(arguments.begin());
        arguments.emplace_back("--help");
    }
    const std::string& first = arguments[0];
    if (!first.empty() && first[0] != '-' && !has_command(first)) {
        std::string nearest;
        std::size_t best = 3;
        for (const Entry& entry : entries_) {
            const std::string& name = entry.app->get_name();
            const std::size_t distance = base::edit_distance(first, name);
            if (distance < best) {
                best = distance;
                nearest = name;
            }
        }
        print_error("", nearest.empty()
                            ? fmt::format("there is no command '{}'; `retort --help` lists them", first)
                            : fmt::format("there is no command '{}'; did you mean '{}'?", first, nearest));
        return 2;
    }
    try {
        std::reverse(arguments.begin(), arguments.end());  // CLI11 wants them last first
        app_.parse(arguments);
    } catch (const CLI::ParseError& error) {
        return report_parse_error(error);
    }
    std::string name;
    const CLI::App* chosen = innermost_of(app_, name);
    for (const Entry& entry : entries_) {
        if (entry.app == chosen) return run_parsed(entry, name);
    }
    fmt::print(stderr, "{}\n", trimmed(app_.help()));
    return 2;
}

}  // namespace retort::cli
