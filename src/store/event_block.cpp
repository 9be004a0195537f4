#include <zstd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>

#include "base/hash.h"
#include "store/event_log.h"

namespace retort::store {

namespace {

constexpr std::uint8_t block_version = 2;
constexpr std::uint8_t oldest_version = 1;  // without plan, payment and sketch
constexpr std::size_t max_block_bytes = std::size_t{256} << 20U;
constexpr int compression_level = 1;
constexpr std::uint64_t flag_stream = 1;
constexpr std::uint64_t flag_logprobs = 2;
constexpr std::uint64_t flag_logit_bias = 4;

// LEB128.
void put_number(std::string& out, std::uint64_t value) {
    while (value >= 0x80) {
        out += static_cast<char>((value & 0x7fU) | 0x80U);
        value >>= 7U;
    }
    out += static_cast<char>(value);
}

// Zigzag: small numbers of either sign are short.
void put_signed(std::string& out, std::int64_t value) {
    put_number(out, (static_cast<std::uint64_t>(value) << 1U) ^ static_cast<std::uint64_t>(value >> 63));
}

void put_text(std::string& out, std::string_view text) {
    put_number(out, text.size());
    out += text;
}

void put_hash(std::string& out, const ShortHash& hash) {
    out.append(reinterpret_cast<const char*>(hash.data()), hash.size());
}

// Reads within its bytes; once it has failed every value is empty.
class Reader {
  public:
    explicit Reader(std::string_view bytes) : bytes_(bytes) {}
    std::uint64_t number() {
        std::uint64_t value = 0;
        for (unsigned shift = 0; shift < 64; shift += 7) {
            if (at_ == bytes_.size()) break;
            const auto byte = static_cast<std::uint8_t>(bytes_[at_++]);
            if (shift == 63 && byte > 1) break;
            value |= static_cast<std::uint64_t>(byte & 0x7fU) << shift;
            if (byte < 0x80) return value;
        }
        failed_ = true;
        at_ = bytes_.size();
        return 0;
    }
    std::int64_t signed_number() {
        const std::uint64_t value = number();
        return static_cast<std::int64_t>((value >> 1U) ^ (~(value & 1U) + 1U));
    }
    std::string_view take(std::uint64_t count) {
        if (count > bytes_.size() - at_) {
            failed_ = true;
            at_ = bytes_.size();
            return {};
        }
        const std::string_view out = bytes_.substr(at_, count);
        at_ += count;
        return out;
    }
    std::string text() { return std::string(take(number())); }
    ShortHash hash() {
        ShortHash out{};
        const std::string_view bytes = take(out.size());
        std::copy(bytes.begin(), bytes.end(), out.begin());
        return out;
    }
    [[nodiscard]] bool failed() const { return failed_; }
    [[nodiscard]] bool at_end() const { return at_ == bytes_.size(); }

  private:
    std::string_view bytes_;
    std::size_t at_ = 0;
    bool failed_ = false;
};

void put_event(std::string& out, const Event& event, std::int64_t& last_time) {
    put_signed(out, event.time_ms - last_time);
    last_time = event.time_ms;
    for (const auto* hash : {&event.account, &event.key, &event.address, &event.user_agent})
        put_hash(out, *hash);
    for (const auto* text :
         {&event.request_id, &event.method, &event.route, &event.model, &event.end, &event.code}) {
        put_text(out, *text);
    }
    put_number(out, (event.stream ? flag_stream : 0) | (event.logprobs ? flag_logprobs : 0) |
                        (event.logit_bias ? flag_logit_bias : 0));
    for (const std::int64_t value :
         {event.status, event.prompt_tokens, event.cached_tokens, event.completion_tokens,
          event.reasoning_tokens, event.cost, event.first_byte_us, event.total_us, event.messages}) {
        put_signed(out, value);
    }
    put_number(out, event.parameters);
    put_text(out, event.body);
    put_text(out, event.plan);
    put_hash(out, event.payment);
    put_text(out, event.sketch);
}

Event take_event(Reader& in, std::int64_t& last_time, std::uint8_t version) {
    Event event;
    // Of unsigned numbers: a damaged file may make it overflow.
    last_time = static_cast<std::int64_t>(static_cast<std::uint64_t>(last_time) +
                                          static_cast<std::uint64_t>(in.signed_number()));
    event.time_ms = last_time;
    for (auto* hash : {&event.account, &event.key, &event.address, &event.user_agent}) *hash = in.hash();
    for (auto* text :
         {&event.request_id, &event.method, &event.route, &event.model, &event.end, &event.code}) {
        *text = in.text();
    }
    const std::uint64_t flags = in.number();
    event.stream = (flags & flag_stream) != 0;
    event.logprobs = (flags & flag_logprobs) != 0;
    event.logit_bias = (flags & flag_logit_bias) != 0;
    for (auto* value :
         {&event.status, &event.prompt_tokens, &event.cached_tokens, &event.completion_tokens,
          &event.reasoning_tokens, &event.cost, &event.first_byte_us, &event.total_us, &event.messages}) {
        *value = in.signed_number();
    }
    event.parameters = in.number();
    event.body = in.text();
    if (version == oldest_version) return event;
    event.plan = in.text();
    event.payment = in.hash();
    event.sketch = in.text();
    return event;
}

std::string hash_or_empty(const ShortHash& hash) {
    return hash == ShortHash{} ? std::string() : base::to_hex(hash);
}

}  // namespace

void add_record(PlainBlock& block, const Event& event) {
    put_event(block.records, event, block.last_time);
    ++block.count;
    block.bodies = block.bodies || !event.body.empty();
}

std::string pack_block(const PlainBlock& block) {
    std::string plain;
    plain.reserve(10 + block.records.size());
    put_number(plain, block.count);
    plain += block.records;
    std::string out(1 + 8 + ZSTD_compressBound(plain.size()), '\0');
    out[0] = static_cast<char>(block_version);
    const std::uint64_t size = plain.size();
    std::memcpy(out.data() + 1, &size, sizeof size);
    // A context is some hundred kilobytes: one a thread, made once.
    thread_local const std::unique_ptr<ZSTD_CCtx, std::size_t (*)(ZSTD_CCtx*)> context(ZSTD_createCCtx(),
                                                                                       ZSTD_freeCCtx);
    const std::size_t packed = ZSTD_compressCCtx(context.get(), out.data() + 9, out.size() - 9, plain.data(),
                                                 plain.size(), compression_level);
    out.resize(9 + packed);
    return out;
}

std::string write_block(const std::vector<Event>& events) {
    PlainBlock block;
    for (const Event& event : events) add_record(block, event);
    return pack_block(block);
}

std::vector<Event> records_of(const PlainBlock& block) {
    Reader in(block.records);
    std::vector<Event> events;
    events.reserve(block.count);
    std::int64_t last_time = 0;
    for (std::size_t i = 0; i < block.count; ++i) events.push_back(take_event(in, last_time, block_version));
    return events;
}

Result<std::vector<Event>> read_block(std::string_view payload) {
    if (payload.size() < 9)
        return fail(ErrorCode::format, "a block of {} bytes has no header", payload.size());
    const auto version = static_cast<std::uint8_t>(payload[0]);
    if (version < oldest_version || version > block_version) {
        return fail(ErrorCode::unsupported, "block version {}; this program reads {} to {}", version,
                    oldest_version, block_version);
    }
    std::uint64_t size = 0;
    std::memcpy(&size, payload.data() + 1, sizeof size);
    if (size > max_block_bytes) {
        return fail(ErrorCode::format, "a block of {} bytes is above the limit of {}", size, max_block_bytes);
    }
    // zstd's own header must agree before so much memory is taken.
    if (ZSTD_getFrameContentSize(payload.data() + 9, payload.size() - 9) != size) {
        return fail(ErrorCode::format, "a block's compressed size does not agree with its header");
    }
    std::string plain(size, '\0');
    const std::size_t unpacked =
        ZSTD_decompress(plain.data(), plain.size(), payload.data() + 9, payload.size() - 9);
    if (ZSTD_isError(unpacked) != 0 || unpacked != size) {
        return fail(ErrorCode::format, "a block cannot be unpacked");
    }
    Reader in(plain);
    const std::uint64_t count = in.number();
    std::vector<Event> events;
    std::int64_t last_time = 0;
    for (std::uint64_t i = 0; i < count && !in.failed(); ++i)
        events.push_back(take_event(in, last_time, version));
    if (in.failed() || !in.at_end()) return fail(ErrorCode::format, "a block's records do not fill it");
    return events;
}

namespace {

nlohmann::ordered_json fields_of(const Event& event) {
    return {{"time_ms", event.time_ms},
            {"request_id", event.request_id},
            {"account", hash_or_empty(event.account)},
            {"key", hash_or_empty(event.key)},
            {"address", hash_or_empty(event.address)},
            {"user_agent", hash_or_empty(event.user_agent)},
            {"method", event.method},
            {"route", event.route},
            {"model", event.model},
            {"status", event.status},
            {"end", event.end},
            {"code", event.code},
            {"stream", event.stream},
            {"logprobs", event.logprobs},
            {"logit_bias", event.logit_bias},
            {"prompt_tokens", event.prompt_tokens},
            {"cached_tokens", event.cached_tokens},
            {"completion_tokens", event.completion_tokens},
            {"reasoning_tokens", event.reasoning_tokens},
            {"cost", event.cost},
            {"first_byte_us", event.first_byte_us},
            {"total_us", event.total_us},
            {"parameters", fmt::format("{:016x}", event.parameters)},
            {"messages", event.messages},
            {"body", event.body},
            {"plan", event.plan},
            {"payment", hash_or_empty(event.payment)},
            {"sketch", base::to_hex(std::span(reinterpret_cast<const std::uint8_t*>(event.sketch.data()),
                                              event.sketch.size()))}};
}

// RFC 4180: what could be taken for the end of a field or of a line stands in quotes.
std::string csv_field(const std::string& text) {
    if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"') out += '"';
        out += c;
    }
    return out + "\"";
}

}  // namespace

std::string event_json(const Event& event) {
    return fields_of(event).dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

std::string event_csv_header() {
    std::string out;
    const nlohmann::ordered_json fields = fields_of({});
    for (const auto& [name, value] : fields.items()) (out += out.empty() ? "" : ",") += name;
    return out + "\n";
}

std::string event_csv(const Event& event) {
    std::string out;
    const nlohmann::ordered_json fields = fields_of(event);
    for (const auto& [name, value] : fields.items()) {
        if (name != "time_ms") out += ',';
        // As JSON has it: invalid UTF-8 replaced.
        out +=
            value.is_string()
                ? csv_field(nlohmann::json::parse(
                                value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace))
                                .get<std::string>())
                : value.dump();
    }
    return out + "\n";
}

}  // namespace retort::store
