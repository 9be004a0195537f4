#include "serve/quota_account.h"

#include <algorithm>

namespace retort::serve {

using store::no_limit;
using store::spans;
using store::units;

namespace {

store::LedgerLine line_of(std::size_t unit, std::size_t span, std::int64_t start) {
    store::LedgerLine line;
    line.unit = unit;
    line.span = span;
    line.start = start;
    return line;
}

template <typename Action>
void each_counter(const Action& action) {
    for (std::size_t unit = 0; unit < units; ++unit) {
        for (std::size_t span = 0; span < spans; ++span) action(unit, span);
    }
}

}  // namespace

void QuotaAccount::roll(std::int64_t now) {
    for (std::size_t span = 0; span < spans; ++span) {
        if (now < ends[span] && now >= starts[span]) continue;
        for (std::size_t unit = 0; unit < units; ++unit) {
            QuotaCounter& counter = counters[unit][span];
            if (counter.balance != 0 || counter.used != 0 || counter.beyond != 0) {
                store::LedgerLine line = line_of(unit, span, starts[span]);
                line.used = counter.used;
                line.used_beyond = counter.beyond;
                line.give_back = counter.balance;
                past.push_back(line);
            }
            counter = {};
        }
        starts[span] = store::span_start(span, now);
        ends[span] = store::span_end(span, now);
        exhausted_until = 0;
    }
}

std::optional<Reservation> QuotaAccount::take(const std::shared_ptr<QuotaAccount>& self,
                                              const Amounts& wanted) {
    bool enough = true;
    each_counter([&](std::size_t unit, std::size_t span) {
        if (limits[unit][span] != no_limit) enough = enough && counters[unit][span].balance >= wanted[unit];
    });
    if (!enough) return std::nullopt;
    Reservation out;
    out.account = self;
    out.starts = starts;
    out.epoch = epoch;
    each_counter([&](std::size_t unit, std::size_t span) {
        QuotaCounter& counter = counters[unit][span];
        counter.recent += wanted[unit];
        if (limits[unit][span] == no_limit) return;
        counter.balance -= wanted[unit];
        out.taken[unit][span] = wanted[unit];
    });
    return out;
}

std::optional<QuotaRefusal> QuotaAccount::refusal(const Amounts& wanted, std::int64_t now, bool fresh) const {
    std::optional<QuotaRefusal> out;
    each_counter([&](std::size_t unit, std::size_t span) {
        const std::int64_t limit = limits[unit][span];
        if (limit == no_limit) return;
        const QuotaCounter& counter = counters[unit][span];
        const bool never = wanted[unit] > limit;
        // The longest span that refuses is the one to tell of: waiting for a shorter one would not help.
        if (never || (fresh && counter.balance + counter.left < wanted[unit])) {
            const bool first_never = out && out->never_fits;
            if (!first_never) out = QuotaRefusal{unit, span, limit, ends[span] - now, never, false};
        }
    });
    return out;
}

void QuotaAccount::settle(const Reservation& reservation, const Amounts& used) {
    each_counter([&](std::size_t unit, std::size_t span) {
        const std::int64_t taken = reservation.taken[unit][span];
        std::int64_t from_lease = std::min(used[unit], taken);
        std::int64_t beyond = used[unit] - from_lease;
        std::int64_t rest = taken - from_lease;
        // The lease was given up for dead, and charged whole.
        if (reservation.epoch != epoch) from_lease = rest = 0;
        if (reservation.starts[span] != starts[span]) {
            store::LedgerLine line = line_of(unit, span, reservation.starts[span]);
            line.used = from_lease;
            line.used_beyond = beyond;
            line.give_back = rest;
            if (from_lease + beyond + rest != 0) past.push_back(line);
            return;
        }
        QuotaCounter& counter = counters[unit][span];
        counter.balance += rest;
        const std::int64_t covered = std::min(beyond, counter.balance);
        counter.balance -= covered;
        counter.used += from_lease + covered;
        counter.beyond += beyond - covered;
    });
}

std::array<QuotaState, 2> QuotaAccount::states(std::int64_t now) const {
    std::array<QuotaState, 2> out;
    for (std::size_t unit = 0; unit < out.size(); ++unit) {
        for (std::size_t span = 0; span < spans && out[unit].limit == no_limit; ++span) {
            if (limits[unit][span] == no_limit) continue;
            const QuotaCounter& counter = counters[unit][span];
            out[unit] = {limits[unit][span], std::max<std::int64_t>(counter.left + counter.balance, 0),
                         ends[span] - now};
        }
    }
    return out;
}

void QuotaAccount::drop_leases() {
    ++epoch;
    each_counter([&](std::size_t unit, std::size_t span) {
        counters[unit][span].balance = 0;
        counters[unit][span].used = 0;
    });
    for (store::LedgerLine& line : past) line.used = line.give_back = 0;
}

std::vector<store::LedgerLine> QuotaAccount::lines(const std::vector<Amounts>& waiting, bool last) {
    std::vector<store::LedgerLine> out = std::move(past);
    past.clear();
    each_counter([&](std::size_t unit, std::size_t span) {
        QuotaCounter& counter = counters[unit][span];
        store::LedgerLine line = line_of(unit, span, starts[span]);
        line.used = counter.used;
        line.used_beyond = counter.beyond;
        line.limit = limits[unit][span];
        const std::int64_t ahead = last ? 0 : 2 * counter.recent;
        if (line.limit == no_limit) {
            line.give_back = counter.balance;  // of a limit that has been lifted
        } else if (!waiting.empty()) {
            std::int64_t sum = 0;
            for (const Amounts& amounts : waiting) sum += amounts[unit];
            line.need = std::max<std::int64_t>(waiting.front()[unit] - counter.balance, 0);
            line.ask = std::max<std::int64_t>(sum - counter.balance - line.need, 0);
            line.want = ahead;
        } else if (counter.balance < ahead) {
            line.want = ahead - counter.balance;
        } else if (counter.balance > 2 * ahead) {
            line.give_back = counter.balance - ahead;
        }
        counter.balance -= line.give_back;
        counter.used = counter.beyond = counter.recent = 0;
        const bool idle =
            line.used + line.used_beyond + line.give_back + line.need + line.ask + line.want == 0;
        if (!idle || (line.limit != no_limit && !waiting.empty())) out.push_back(line);
    });
    return out;
}

void QuotaAccount::accept(const std::vector<store::LedgerLine>& answered) {
    for (const store::LedgerLine& line : answered) {
        QuotaCounter& counter = counters[line.unit][line.span];
        if (line.start != starts[line.span]) {
            if (line.granted == 0) continue;
            store::LedgerLine back = line_of(line.unit, line.span, line.start);
            back.give_back = line.granted;
            past.push_back(back);
            continue;
        }
        counter.balance += line.granted;
        if (line.limit != no_limit) counter.left = line.left;
    }
}

void QuotaAccount::reject(const std::vector<store::LedgerLine>& asked) {
    for (const store::LedgerLine& line : asked) {
        QuotaCounter& counter = counters[line.unit][line.span];
        if (line.start == starts[line.span]) {
            counter.balance += line.give_back;
            counter.used += line.used;
            counter.beyond += line.used_beyond;
        } else {
            past.push_back(line);
            past.back().need = past.back().ask = past.back().want = 0;
        }
    }
}

bool QuotaAccount::is_idle() const {
    bool idle = past.empty();
    each_counter([&](std::size_t unit, std::size_t span) {
        const QuotaCounter& counter = counters[unit][span];
        idle =
            idle && counter.balance == 0 && counter.used == 0 && counter.beyond == 0 && counter.recent == 0;
    });
    return idle;
}

}  // namespace retort::serve
