#include <algorithm>
#include <nlohmann/json.hpp>

#include "store/accounts.h"

namespace retort::store {

using Json = nlohmann::ordered_json;

namespace {

constexpr std::string_view unit_names[] = {"requests", "tokens", "money"};
constexpr std::string_view span_names[] = {"minute", "day", "month"};

Result<std::int64_t> whole_number(const std::string& name, const nlohmann::json& value) {
    if (!value.is_number_integer() || value.get<std::int64_t>() < 0) {
        return fail(ErrorCode::invalid_argument, "{}: {} is not a whole number of 0 or more", name,
                    value.dump());
    }
    return value.get<std::int64_t>();
}

}  // namespace

std::string_view unit_name(std::size_t unit) {
    return unit_names[unit];
}

std::string_view span_name(std::size_t span) {
    return span_names[span];
}

Json to_json(const Plan& plan) {
    Json limits = Json::object();
    for (std::size_t unit = 0; unit < units; ++unit) {
        for (std::size_t span = 0; span < spans; ++span) {
            if (plan.limits[unit][span] == no_limit) continue;
            limits[fmt::format("{}_per_{}", unit_name(unit), span_name(span))] = plan.limits[unit][span];
        }
    }
    return {{"name", plan.name},
            {"training_on_outputs", plan.training_on_outputs},
            {"models", plan.models},
            {"logprobs", plan.logprobs},
            {"prompt_logprobs", plan.prompt_logprobs},
            {"reasoning", plan.reasoning},
            {"limits", limits},
            {"prompt_price", plan.prompt_price},
            {"completion_price", plan.completion_price},
            {"reserved_completion_tokens", plan.reserved_completion_tokens},
            {"terms", plan.terms}};
}

Json to_json(const Terms& terms) {
    return {{"version", terms.version}, {"text_sha256", terms.text_sha256}, {"created", terms.created}};
}

Json to_json(const Account& account) {
    Json accepted = Json::array();
    for (const Acceptance& acceptance : account.acceptances) {
        accepted.push_back(
            {{"terms", acceptance.terms}, {"by", acceptance.accepted_by}, {"accepted", acceptance.accepted}});
    }
    return {{"id", account.id},           {"name", account.name},     {"plan", account.plan},
            {"status", account.status},   {"reason", account.reason}, {"created", account.created},
            {"payment", account.payment}, {"acceptances", accepted}};
}

Json to_json(const Key& key) {
    return {{"id", key.id},           {"account", key.account}, {"name", key.name},      {"role", key.role},
            {"created", key.created}, {"expires", key.expires}, {"revoked", key.revoked}};
}

Result<Plan> plan_from_json(const nlohmann::json& json, Plan plan) {
    if (!json.is_object()) return fail(ErrorCode::invalid_argument, "a plan is a JSON object");
    for (const auto& [name, value] : json.items()) {
        const auto wrong = [&, &field = name, &given = value](std::string_view wanted) {
            return fail(ErrorCode::invalid_argument, "{}: {} is not {}", field, given.dump(), wanted);
        };
        if (name == "name" || name == "reasoning" || name == "terms") {
            if (!value.is_string()) return wrong("a string");
            const auto text = value.get<std::string>();
            if (name == "reasoning" && text != "full" && text != "summarised" && text != "withheld") {
                return wrong("full, summarised or withheld");
            }
            (name == "name" ? plan.name : name == "terms" ? plan.terms : plan.reasoning) = text;
        } else if (name == "training_on_outputs" || name == "logprobs" || name == "prompt_logprobs") {
            if (!value.is_boolean()) return wrong("true or false");
            bool& field = name == "logprobs"          ? plan.logprobs
                          : name == "prompt_logprobs" ? plan.prompt_logprobs
                                                      : plan.training_on_outputs;
            field = value.get<bool>();
        } else if (name == "models") {
            const bool strings =
                value.is_array() &&
                std::all_of(value.begin(), value.end(), [](const auto& item) { return item.is_string(); });
            if (!strings) return wrong("a list of names");
            plan.models = value.get<std::vector<std::string>>();
        } else if (name == "limits") {
            if (!value.is_object()) return wrong("an object such as {\"requests_per_minute\": 60}");
            for (const auto& [limit, number] : value.items()) {
                bool known = false;
                for (std::size_t unit = 0; unit < units; ++unit) {
                    for (std::size_t span = 0; span < spans; ++span) {
                        if (limit != fmt::format("{}_per_{}", unit_name(unit), span_name(span))) continue;
                        known = true;
                        plan.limits[unit][span] = no_limit;
                        if (number.is_null()) continue;
                        RETORT_TRY(plan.limits[unit][span], whole_number("limits." + limit, number));
                    }
                }
                if (!known) {
                    return fail(ErrorCode::invalid_argument,
                                "limits.{}: unknown; they are (requests|tokens|money)_per_(minute|day|month)",
                                limit);
                }
            }
        } else if (name == "prompt_price") {
            RETORT_TRY(plan.prompt_price, whole_number(name, value));
        } else if (name == "completion_price") {
            RETORT_TRY(plan.completion_price, whole_number(name, value));
        } else if (name == "reserved_completion_tokens") {
            RETORT_TRY(plan.reserved_completion_tokens, whole_number(name, value));
        } else {
            return fail(ErrorCode::invalid_argument, "{}: a plan has no such field", name);
        }
    }
    return plan;
}

}  // namespace retort::store
