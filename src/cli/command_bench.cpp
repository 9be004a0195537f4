#include "cli/command_guard_lab.h"
#include "cli/commands.h"

namespace retort::cli {

void add_bench(Commands& commands) {
    CLI::App& bench =
        commands.add(Group::machine, "bench", "the machine's limit and this program's share of it",
                     {"retort bench peak"}, [](const CommonOptions&) -> Status { return {}; });
    add_bench_peak(commands, bench);
    add_bench_train(commands, bench);
    add_bench_head(commands, bench);
    add_bench_tokenize(commands, bench);
    add_bench_prefill(commands, bench);
    add_bench_decode(commands, bench);
    add_bench_speculate(commands, bench);
    add_bench_batch(commands, bench);
    add_bench_load(commands, bench);
    add_bench_guard(commands, bench);
}

}  // namespace retort::cli
