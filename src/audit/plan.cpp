#include "audit/plan.h"

#include <algorithm>
#include <cmath>

namespace retort::audit {

namespace {

Result<std::vector<std::string>> strings_of(const Json& json, const char* name) {
    std::vector<std::string> out;
    const Json* list = formats::json_find(json, name);
    if (list == nullptr) return out;
    if (!list->is_array()) return fail(ErrorCode::format, "plan.json: \"{}\" is no array", name);
    for (const Json& item : *list) {
        if (!item.is_string())
            return fail(ErrorCode::format, "plan.json: \"{}\" holds what is no string", name);
        out.push_back(item.get<std::string>());
    }
    return out;
}

}  // namespace

Json write_plan(const Plan& plan) {
    return {{"format", "retort-audit-plan-1"},
            {"created", plan.created},
            {"suspect", plan.suspect},
            {"suspect_model", plan.suspect_model},
            {"suspect_identity", plan.suspect_identity},
            {"teacher", plan.teacher},
            {"access", access_name(plan.access)},
            {"primary", plan.primary},
            {"tests", plan.tests},
            {"alpha", plan.alpha},
            {"channel", plan.channel},
            {"tokenizer", plan.tokenizer},
            {"reference", plan.reference},
            {"reference_identity", plan.reference_identity},
            {"controls", plan.controls},
            {"control_identities", plan.control_identities},
            {"commitment", plan.commitment},
            {"roots", plan.roots},
            {"leaves", plan.leaves},
            {"records", plan.records},
            {"calibration_trials", plan.calibration_trials},
            {"settings",
             {{"max_twins", plan.settings.max_twins},
              {"max_texts", plan.settings.max_texts},
              {"answers", plan.settings.answers},
              {"answer_tokens", plan.settings.answer_tokens},
              {"temperature", plan.settings.temperature},
              {"stop_early", plan.settings.stop_log_wealth > 0},
              {"seed", plan.settings.seed}}}};
}

Result<Plan> parse_plan(const Json& json) {
    Plan plan;
    RETORT_TRY(const std::string format, formats::json_string(json, "format", ""));
    if (format != "retort-audit-plan-1") {
        return fail(ErrorCode::format, "plan.json: format \"{}\" is not retort-audit-plan-1", format);
    }
    RETORT_TRY(plan.created, formats::json_string(json, "created"));
    RETORT_TRY(plan.suspect, formats::json_string(json, "suspect"));
    RETORT_TRY(plan.suspect_identity, formats::json_string(json, "suspect_identity", ""));
    RETORT_TRY(plan.suspect_model, formats::json_string(json, "suspect_model", ""));
    RETORT_TRY(plan.teacher, formats::json_string(json, "teacher", ""));
    RETORT_TRY(plan.reference_identity, formats::json_string(json, "reference_identity", ""));
    RETORT_TRY(const std::string access, formats::json_string(json, "access"));
    RETORT_TRY(plan.access, access_from_name(access));
    RETORT_TRY(plan.primary, formats::json_string(json, "primary"));
    const Json* tests = formats::json_find(json, "tests");
    if (tests == nullptr || !tests->is_array())
        return fail(ErrorCode::format, "plan.json: no array \"tests\"");
    for (const Json& test : *tests) {
        if (!test.is_string()) return fail(ErrorCode::format, "plan.json: a test is no string");
        RETORT_CHECK(find_test(test.get<std::string>()));
        plan.tests.push_back(test.get<std::string>());
    }
    const bool planned = std::find(plan.tests.begin(), plan.tests.end(), plan.primary) != plan.tests.end();
    if (!planned && plan.primary != average_of_bets) {
        return fail(ErrorCode::format, "plan.json: the primary test \"{}\" is not among the tests",
                    plan.primary);
    }
    RETORT_TRY(plan.alpha, formats::json_number(json, "alpha"));
    if (!(plan.alpha > 0 && plan.alpha < 1))
        return fail(ErrorCode::format, "plan.json: alpha is not in (0, 1)");
    RETORT_TRY(plan.channel, formats::json_string(json, "channel", ""));
    RETORT_TRY(plan.tokenizer, formats::json_string(json, "tokenizer", ""));
    RETORT_TRY(plan.reference, formats::json_string(json, "reference", ""));
    RETORT_TRY(plan.controls, strings_of(json, "controls"));
    RETORT_TRY(plan.control_identities, strings_of(json, "control_identities"));
    if (plan.controls.size() != plan.control_identities.size())
        return fail(ErrorCode::format, "plan.json: not as many control_identities as controls");
    RETORT_TRY(plan.commitment, formats::json_string(json, "commitment", ""));
    RETORT_TRY(plan.roots, formats::json_string(json, "roots", ""));
    RETORT_TRY(plan.leaves, formats::json_string(json, "leaves", ""));
    RETORT_TRY(plan.records, formats::json_integer(json, "records", 0));
    RETORT_TRY(plan.calibration_trials, formats::json_integer(json, "calibration_trials", 1000));
    if (plan.calibration_trials < 1000 || plan.calibration_trials > 1'000'000) {
        return fail(ErrorCode::invalid_argument, "plan.json: calibration_trials is {}; use 1000 to 1000000",
                    plan.calibration_trials);
    }
    const Json* settings = formats::json_find(json, "settings");
    if (settings == nullptr) return fail(ErrorCode::format, "plan.json: no settings");
    GatherSettings& to = plan.settings;
    RETORT_TRY(to.max_twins, formats::json_integer(*settings, "max_twins", to.max_twins));
    RETORT_TRY(to.max_texts, formats::json_integer(*settings, "max_texts", to.max_texts));
    RETORT_TRY(to.answers, formats::json_integer(*settings, "answers", to.answers));
    RETORT_TRY(to.answer_tokens, formats::json_integer(*settings, "answer_tokens", to.answer_tokens));
    RETORT_TRY(to.temperature, formats::json_number(*settings, "temperature", to.temperature));
    RETORT_TRY(const std::int64_t seed, formats::json_integer(*settings, "seed", 1));
    to.seed = static_cast<std::uint64_t>(seed);
    if (const Json* stop = formats::json_find(*settings, "stop_early");
        stop != nullptr && stop->is_boolean() && stop->get<bool>()) {
        to.stop_log_wealth = -std::log(plan.alpha);
    }
    if (to.max_twins < 1 || to.max_texts < 1 || to.answers < 1 || to.answer_tokens < 1 || seed < 0) {
        return fail(ErrorCode::format, "plan.json: settings of less than 1");
    }
    return plan;
}

std::string plan_text(const Plan& plan) {
    return formats::write_json(write_plan(plan), 1) + "\n";
}

}  // namespace retort::audit
