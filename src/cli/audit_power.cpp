// retort audit power: how much must be asked, from what share of marked training text.
#include <fmt/format.h>

#include "audit/power.h"
#include "cli/audit_options.h"
#include "formats/json.h"

namespace retort::cli {

namespace {

struct PowerCommand {
    double share = 0.05;
    double lift = 0;
    double gamma = 0.25;
    double effect = 0;
    double p = 1e-6;
};

std::string count_text(std::optional<std::int64_t> count) {
    return count ? fmt::format("{}", *count) : "no number would do";
}

Status run_power(const PowerCommand& command, const CommonOptions& common) {
    const bool assumed = command.lift == 0;
    const double lift = assumed ? command.share * audit::published_lift_per_share : command.lift;
    const auto half = audit::green_windows(command.gamma, lift, command.p, 0.5);
    const auto most = audit::green_windows(command.gamma, lift, command.p, 0.9);
    const auto twins_half = audit::twin_pairs(command.effect, command.p, 0.5);
    const auto twins_most = audit::twin_pairs(command.effect, command.p, 0.9);
    if (common.json) {
        formats::Json json{{"lift", lift}, {"p", command.p}, {"gamma", command.gamma}};
        if (half) json["windows_50"] = *half;
        if (most) json["windows_90"] = *most;
        if (twins_half) json["twins_50"] = *twins_half;
        if (twins_most) json["twins_90"] = *twins_most;
        fmt::print("{}\n", formats::write_json(json));
        return {};
    }
    fmt::print(
        "a lift of {:.4f} on a green share of {:g}{}\n", lift, command.gamma,
        assumed
            ? fmt::format(" (from the published .0088 at 5 %, in proportion to {:g} %: your model's differs; "
                          "--lift sets it)",
                          command.share * 100)
            : "");
    fmt::print("distinct windows for p ≤ {:g}: {} (half of such audits), {} (nine of ten)\n", command.p,
               count_text(half), count_text(most));
    if (command.effect > 0) {
        fmt::print("twins at a mean difference of {:g} standard deviations: {} (half), {} (nine of ten)\n",
                   command.effect, count_text(twins_half), count_text(twins_most));
    }
    return {};
}

}  // namespace

void add_audit_power(Commands& commands, CLI::App& audit) {
    auto options = std::make_shared<PowerCommand>();
    CLI::App& app = commands.add_nested(
        audit, "power", "how many windows or twins an audit needs, before anything is asked",
        {"retort audit power --share 0.05 --p 1e-3", "retort audit power --lift 0.02 --effect 0.3 --p 1e-6"},
        [options](const CommonOptions& common) { return run_power(*options, common); });
    app.add_option("--share", options->share, "of the training text that is marked")
        ->check(CLI::Range(0.0, 1.0))
        ->capture_default_str();
    app.add_option("--lift", options->lift, "of the green share, where it is known; 0: from the share")
        ->check(CLI::Range(0.0, 1.0));
    app.add_option("--gamma", options->gamma, "green share without training")
        ->check(CLI::Range(0.001, 0.999))
        ->capture_default_str();
    app.add_option("--effect", options->effect, "of twins: mean difference in standard deviations")
        ->check(CLI::Range(0.0, 100.0));
    app.add_option("--p", options->p, "p-value to be reached")
        ->check(CLI::Range(1e-300, 0.5))
        ->capture_default_str();
    commands.add_json_option(app);
}

}  // namespace retort::cli
