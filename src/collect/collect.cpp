#include "collect/collect.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <unordered_set>
#include <utility>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "collect/run.h"
#include "collect/terms.h"
#include "http/url.h"

namespace retort::collect {

using formats::Json;

namespace {

Status check_options(const CollectOptions& options) {
    if (options.output.empty()) return fail(ErrorCode::invalid_argument, "no output folder is named");
    if (options.prompts.empty()) return fail(ErrorCode::invalid_argument, "no prompts are given");
    if (options.endpoints.empty()) return fail(ErrorCode::invalid_argument, "no endpoint is named");
    if (options.model.empty()) return fail(ErrorCode::invalid_argument, "no model is named");
    if (options.samples < 1 || options.samples > 10'000) {
        return fail(ErrorCode::invalid_argument, "{} samples a prompt; from 1 to 10000", options.samples);
    }
    if (options.max_tokens < 0)
        return fail(ErrorCode::invalid_argument, "max_tokens is {}", options.max_tokens);
    const Budget& budget = options.budget;
    if (budget.max_requests < 0 || budget.max_tokens < 0 || !(budget.max_cost >= 0) ||
        !(budget.max_seconds >= 0) || !(budget.prompt_price >= 0) || !(budget.completion_price >= 0)) {
        return fail(ErrorCode::invalid_argument, "a limit or a price of the budget is below zero");
    }
    if (budget.max_cost > 0 && budget.prompt_price == 0 && budget.completion_price == 0) {
        return fail(ErrorCode::invalid_argument, "a budget in money needs the prices per million tokens");
    }
    if (options.max_tokens == 0 && (budget.max_tokens > 0 || budget.max_cost > 0)) {
        return fail(ErrorCode::invalid_argument,
                    "a budget in tokens or money needs max_tokens: without it an answer may cost anything");
    }
    if (!options.parameters.is_object()) return fail(ErrorCode::invalid_argument, "parameters are no object");
    for (const std::string_view key :
         {"model", "messages", "stream", "stream_options", "n", "max_tokens", "max_completion_tokens"}) {
        if (options.parameters.contains(key)) {
            return fail(ErrorCode::invalid_argument,
                        "parameter {} has an option of its own or is not for collecting", key);
        }
    }
    if (options.pressure.max_concurrency < 1) {
        return fail(ErrorCode::invalid_argument, "a concurrency of {}", options.pressure.max_concurrency);
    }
    if (options.hedge_share != 0 &&
        !(options.hedge_share >= least_hedge_share && options.hedge_share <= most_hedge_share)) {
        return fail(ErrorCode::invalid_argument,
                    "--hedge {}: the share of slow answers to ask for twice; from {} to {}, or 0 for none",
                    options.hedge_share, least_hedge_share, most_hedge_share);
    }
    return {};
}

std::vector<Item> work_list(const CollectOptions& options) {
    std::vector<Item> items;
    std::unordered_set<std::string> seen;
    for (std::size_t i = 0; i < options.prompts.size(); ++i) {
        const data::Prompt& prompt = options.prompts[i];
        for (std::int64_t sample = 0; sample < options.samples; ++sample) {
            Item item;
            item.prompt = i;
            item.request = {.messages = prompt.messages,
                            .model = options.model,
                            .parameters = options.parameters,
                            .max_tokens = options.max_tokens,
                            .sample = sample};
            item.id = data::request_key(item.request).substr(0, 32);
            item.most = {most_prompt_tokens(prompt.messages), options.max_tokens};
            if (seen.insert(item.id).second) items.push_back(std::move(item));
        }
    }
    return items;
}

Forecast forecast(const CollectOptions& options, const std::vector<Item>& items, const AnswerStore& store) {
    Forecast out;
    std::int64_t answers = 0;
    std::int64_t prompt_tokens = 0;
    std::int64_t prompt_bound = 0;
    std::int64_t completion_tokens = 0;
    for (const Item& item : items) {
        if (const data::Record* record = store.find(item.id); record != nullptr) {
            ++answers;
            prompt_tokens += record->usage.prompt_tokens;
            prompt_bound += item.most.prompt_tokens;
            completion_tokens += record->usage.completion_tokens;
        }
        if (!store.is_missing(item.id, item.request.max_tokens)) continue;
        ++out.requests;
        out.most.prompt_tokens += item.most.prompt_tokens;
        out.most.completion_tokens += item.most.completion_tokens;
    }
    // From what has been answered, or else four bytes a token and answers of half the limit.
    const double prompt_share = answers >= 8 && prompt_tokens > 0
                                    ? static_cast<double>(prompt_tokens) / static_cast<double>(prompt_bound)
                                    : 0.4;
    const double completion_mean = answers >= 8 && completion_tokens > 0
                                       ? static_cast<double>(completion_tokens) / static_cast<double>(answers)
                                       : static_cast<double>(options.max_tokens) / 2;
    out.expected.prompt_tokens =
        static_cast<std::int64_t>(prompt_share * static_cast<double>(out.most.prompt_tokens));
    out.expected.completion_tokens =
        static_cast<std::int64_t>(completion_mean * static_cast<double>(out.requests));
    out.hedges = static_cast<std::int64_t>(options.hedge_share * static_cast<double>(out.requests));
    for (Estimate* estimate : {&out.expected, &out.most}) {
        for (std::int64_t* tokens : {&estimate->prompt_tokens, &estimate->completion_tokens})
            *tokens += static_cast<std::int64_t>(options.hedge_share * static_cast<double>(*tokens));
    }
    const BudgetMeter meter(options.budget, {});
    out.expected_cost = meter.price(out.expected.prompt_tokens, out.expected.completion_tokens);
    out.most_cost = meter.price(out.most.prompt_tokens, out.most.completion_tokens);
    return out;
}

Status write_records(const CollectOptions& options, const std::vector<Item>& items, const AnswerStore& store,
                     CollectReport& report) {
    RETORT_TRY(data::RecordWriter writer, data::RecordWriter::create(options.output / "records.jsonl"));
    std::string failed;
    for (const Item& item : items) {
        const data::Prompt& prompt = options.prompts[item.prompt];
        if (const data::Record* found = store.find(item.id); found != nullptr) {
            data::Record record = *found;
            record.prompt_id = prompt.id;  // as the prompt file names it now
            record.metadata = prompt.metadata;
            report.truncated += record.finish_reason == "length" ? 1 : 0;
            RETORT_CHECK(writer.add(record));
        } else if (const Failure* failure = store.find_failure(item.id); failure != nullptr) {
            failed += write_failure_frame(*failure).substr(1) + "\n";
        }
    }
    RETORT_TRY(report.manifest, writer.commit());
    return base::write_file_atomic(options.output / "failed.jsonl", std::string_view(failed));
}

// A run that only failed is an error: what follows it would train on nothing. Prompts that the teacher will
// never take are none beside answers that are there.
Status check_something_came(const CollectOptions& options, const CollectReport& report) {
    const std::int64_t refused = report.rejected + report.too_long;
    const bool failed = report.gave_up > 0 || (report.there_before == 0 && refused > 0);
    if (report.asked > 0 || !failed) return {};
    const auto usual =
        std::max_element(report.failures.begin(), report.failures.end(),
                         [](const auto& one, const auto& other) { return one.second < other.second; });
    std::vector<std::string> counts;
    if (report.gave_up > 0)
        counts.push_back(
            fmt::format("{} given up after {} tries each", report.gave_up, options.max_attempts));
    if (report.rejected > 0) counts.push_back(fmt::format("{} rejected", report.rejected));
    if (report.too_long > 0) counts.push_back(fmt::format("{} too long for the teacher", report.too_long));
    const std::size_t others = report.failures.size() - 1;
    return fail(
        ErrorCode::network,
        "{} answered none of {} requests: {}; {} of them: {}{}; {} has each. The same command asks "
        "again",
        options.endpoints.front().url, report.gave_up + refused, fmt::join(counts, ", "), usual->second,
        usual->first,
        others == 0 ? std::string() : fmt::format(" (and {} other reason{})", others, others == 1 ? "" : "s"),
        (options.output / "failed.jsonl").string());
}

// Terms and licences stay with the data, by hash: a later run under other terms does not overwrite them.
Status keep_terms(const CollectOptions& options, const Terms& terms) {
    const std::string name = "terms-" + terms.sha256.substr(0, 12) + terms.extension;
    RETORT_CHECK(base::write_file_atomic(options.output / name, std::string_view(terms.text)));
    if (options.prompt_licence.empty()) return {};
    RETORT_TRY(const std::string licence, base::read_file(options.prompt_licence, std::size_t{1} << 20U));
    return base::write_file_atomic(options.output / "PROMPTS-LICENSE", std::string_view(licence));
}

}  // namespace

std::int64_t most_prompt_tokens(const std::vector<data::Message>& messages) {
    std::int64_t tokens = 64;  // a template's own system prompt
    for (const data::Message& message : messages) {
        tokens += static_cast<std::int64_t>(message.content.size() + message.reasoning.size()) + 16;
    }
    return tokens;
}

std::string forecast_text(const Forecast& forecast, const Budget& budget) {
    const std::int64_t expected = forecast.expected.prompt_tokens + forecast.expected.completion_tokens;
    const std::int64_t most = forecast.most.prompt_tokens + forecast.most.completion_tokens;
    std::string text = fmt::format("{} requests to make", forecast.requests);
    if (forecast.hedges > 0) text += fmt::format(" and at most {} second ones", forecast.hedges);
    text += fmt::format(", about {} tokens (at most {})", expected, most);
    if (budget.prompt_price > 0 || budget.completion_price > 0) {
        text += fmt::format(", about {:.4f} in money (at most {:.4f})", forecast.expected_cost,
                            forecast.most_cost);
    }
    return text;
}

Result<CollectReport> collect(const CollectOptions& options) {
    RETORT_CHECK(check_options(options));
    std::optional<Terms> terms;
    if (!options.terms.empty()) {
        RETORT_TRY(terms, read_terms(options.terms));
    }
    for (const Endpoint& endpoint : options.endpoints) {
        RETORT_TRY(const http::Url url, http::parse_url(endpoint.url));
        RETORT_CHECK(check_terms(terms, url.host, options.model));
    }
    RETORT_CHECK(base::make_folders(options.output));
    RETORT_TRY(const base::FileLock lock, base::FileLock::acquire(options.output / ".lock"));
    RETORT_TRY(AnswerStore store, AnswerStore::open(options.output / "answers.journal"));
    RETORT_CHECK(keep_terms(options, *terms));

    CollectReport report;
    report.torn_bytes = store.torn_bytes();
    if (report.torn_bytes > 0) {
        spdlog::warn("{}: {} bytes of an interrupted append were cut",
                     (options.output / "answers.journal").string(), report.torn_bytes);
    }
    std::vector<Item> items = work_list(options);
    report.wanted = static_cast<std::int64_t>(items.size());
    report.there_before = std::count_if(items.begin(), items.end(), [&](const Item& item) {
        return store.find(item.id) != nullptr && !store.is_missing(item.id, item.request.max_tokens);
    });
    const Forecast ahead = forecast(options, items, store);
    if (!options.quiet && ahead.requests > 0) spdlog::info("{}", forecast_text(ahead, options.budget));

    http::Client client;
    Transport transport = options.transport;
    if (!transport)
        transport = [&client](const http::ClientRequest& request) { return client.send(request); };
    report.spent = store.spent();
    Run run(options, *terms, store, items, transport, report);
    RETORT_CHECK(run.go());

    report.missing = std::count_if(items.begin(), items.end(), [&](const Item& item) {
        return store.is_missing(item.id, item.request.max_tokens) && store.find_failure(item.id) == nullptr;
    });
    RETORT_CHECK(write_records(options, items, store, report));
    RETORT_CHECK(
        base::write_file_atomic(options.output / "report.json", std::string_view(report_json(report))));
    RETORT_CHECK(check_something_came(options, report));
    return report;
}

std::string report_json(const CollectReport& report) {
    const Json json = {{"wanted", report.wanted},
                       {"there_before", report.there_before},
                       {"asked", report.asked},
                       {"rejected", report.rejected},
                       {"too_long", report.too_long},
                       {"gave_up", report.gave_up},
                       {"truncated", report.truncated},
                       {"missing", report.missing},
                       {"retries", report.retries},
                       {"overloads", report.overloads},
                       {"hedges", report.hedges},
                       {"hedges_first", report.hedges_first},
                       {"requests", report.spent.requests},
                       {"prompt_tokens", report.spent.prompt_tokens},
                       {"completion_tokens", report.spent.completion_tokens},
                       {"cost", report.spent.cost},
                       {"seconds", report.seconds},
                       {"peak_in_flight", report.peak_in_flight},
                       {"stopped", report.stopped},
                       {"records", report.manifest.records},
                       {"merkle_root", report.manifest.merkle_root}};
    return formats::write_json(json, 2) + "\n";
}

}  // namespace retort::collect
