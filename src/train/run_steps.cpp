#include "train/run_steps.h"

#include <array>
#include <cmath>
#include <optional>

#include "base/clock.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/parallel.h"
#include "train/event_file.h"

namespace retort::train {

namespace {

Schedule schedule_of(const TrainOptions& options, std::int64_t total_steps) {
    Schedule schedule;
    schedule.kind = options.schedule;
    schedule.peak = options.learning_rate;
    schedule.total_steps = total_steps;
    schedule.warmup_steps =
        static_cast<std::int64_t>(std::lround(options.warmup_share * static_cast<double>(total_steps)));
    schedule.final_share = options.final_share;
    return schedule;
}

Status write_metrics(const std::filesystem::path& folder, const std::vector<StepRecord>& curve) {
    std::string text;
    for (const StepRecord& record : curve) text += step_json(record) + "\n";
    return base::write_file_atomic(folder / "metrics.jsonl", text);
}

// One run of a loop: what is between its steps.
class Running {
  public:
    explicit Running(const StepLoop& loop)
        : loop_(loop),
          options_(loop.options),
          schedule_(schedule_of(loop.options, loop.total_steps)),
          header_{loop.fingerprint, 0, {}, world().size(), base::thread_count()},
          progress_(options_.label, static_cast<std::uint64_t>(loop.total_steps), "steps",
                    options_.quiet || !world().is_first()) {}

    Result<TrainReport> go() {
        RETORT_CHECK(resume());
        if (options_.on_start) options_.on_start(loop_.total_steps, header_.curve);
        while (header_.steps < loop_.total_steps && !out_of_patience()) RETORT_CHECK(advance());
        RETORT_CHECK(keep_best());
        if (!header_.curve.empty()) progress_.finish(fmt::format("loss {:.3f}", header_.curve.back().loss));
        return report();
    }

  private:
    [[nodiscard]] Communicator& world() const { return loop_.trainee.world(); }
    [[nodiscard]] bool on_disk() const { return !options_.folder.empty(); }
    [[nodiscard]] std::filesystem::path last_file() const { return options_.folder / "checkpoint.bin"; }
    [[nodiscard]] std::filesystem::path best_file() const { return options_.folder / "best.bin"; }
    [[nodiscard]] bool watched() const { return options_.eval_every > 0 && loop_.held_out_loss; }

    [[nodiscard]] bool out_of_patience() const {
        return watched() && options_.patience > 0 && watch_.since >= options_.patience;
    }

    Status resume() {
        if (options_.eval_every > 0 && !on_disk())
            return fail(ErrorCode::invalid_argument, "{}: the best weights need a folder to be kept in",
                        options_.label);
        if (!on_disk()) return {};
        if (std::filesystem::exists(last_file())) {
            RETORT_TRY(header_, load_checkpoint(last_file(), loop_.fingerprint, loop_.trainee));
            resumed_from_ = header_.steps;
            spdlog::info("{}: going on from step {} of {}", options_.label, header_.steps, loop_.total_steps);
            warn_of_other_numbers();
        }
        watch_ = watch_held_out(header_.curve);
        progress_.set_resumed(static_cast<std::uint64_t>(header_.steps));
        if (!world().is_first()) return {};
        RETORT_CHECK(base::make_folders(options_.folder));
        RETORT_TRY(events_, EventFile::create(options_.folder / event_file_name, header_.curve));
        return {};
    }

    void warn_of_other_numbers() {
        const int processes = world().size();
        const int threads = base::thread_count();
        if (header_.processes != processes || header_.threads != threads) {
            spdlog::warn(
                "{}: until here it ran on {} processes of {} threads, now on {} of {}: the same run, but "
                "sums "
                "are taken in another order, so not the same bits as without the change",
                options_.label, header_.processes, header_.threads, processes, threads);
        }
        header_.processes = processes;
        header_.threads = threads;
    }

    // What all processes do next is one decision: stop when any was interrupted, save when the first says so.
    struct Signals {
        bool interrupted = false;
        bool save = false;
    };
    Signals signals() {
        const bool late = base::monotonic_seconds() - last_saved_ > options_.checkpoint_seconds;
        std::array<double, 2> raised = {base::interrupted() ? 1.0 : 0.0,
                                        late && world().is_first() ? 1.0 : 0.0};
        world().sum(raised);
        return {raised[0] > 0, raised[1] > 0};
    }

    Status stopped() {
        RETORT_CHECK(save());
        return fail(ErrorCode::cancelled, "{}: stopped at step {} of {}; run the same command again to go on",
                    options_.label, header_.steps, loop_.total_steps);
    }

    Status advance() {
        if (signals().interrupted) return stopped();
        const double start = base::monotonic_seconds();
        const double cpu_start = base::process_cpu_seconds();
        const double rate = learning_rate(schedule_, header_.steps);
        auto taken = loop_.step(header_.steps, rate);
        if (!taken && taken.error().code == ErrorCode::cancelled) return stopped();
        if (!taken) return tl::make_unexpected(taken.error());
        StepRecord& record = *taken;
        record.step = header_.steps + 1;
        record.learning_rate = rate;
        record.seconds = base::monotonic_seconds() - start;
        record.cpu_seconds = base::process_cpu_seconds() - cpu_start;
        if (options_.machine_gflops > 0)
            record.peak_share = record.flop / record.seconds / (options_.machine_gflops * 1e9);
        const bool last = record.step == loop_.total_steps;
        if (watched() && (last || record.step % options_.eval_every == 0))
            record.held_out = loop_.held_out_loss();
        header_.curve.push_back(record);
        ++header_.steps;
        watch_ = watch_held_out(header_.curve);
        if (record.held_out && watch_.best_step == record.step)
            RETORT_CHECK(save_checkpoint(best_file(), header_, loop_.trainee));
        if (events_) RETORT_CHECK(events_->add(record));
        if (options_.on_step) options_.on_step(record);
        RETORT_CHECK(check_finite(record));
        progress_.update(static_cast<std::uint64_t>(header_.steps), note(record));
        const bool due = options_.checkpoint_steps > 0 && header_.steps % options_.checkpoint_steps == 0;
        if (last || due || out_of_patience() || signals().save) return save();
        return {};
    }

    Status check_finite(const StepRecord& record) {
        constexpr std::int64_t most_not_finite = 5;
        const bool finite = std::isfinite(record.gradient_norm) && std::isfinite(record.loss);
        not_finite_ = finite ? 0 : not_finite_ + 1;
        if (not_finite_ < most_not_finite) return {};
        return fail(ErrorCode::invalid_argument,
                    "{}: the loss is not a number at step {}; lower the learning rate ({:g})", options_.label,
                    header_.steps, options_.learning_rate);
    }

    [[nodiscard]] std::string note(const StepRecord& record) const {
        std::string text = fmt::format("loss {:.3f}", record.loss);
        if (watch_.best_step > 0)
            text += fmt::format("  best held-out {:.3f} at {}", watch_.best, watch_.best_step);
        if (loop_.note) text += "  " + loop_.note(record);
        if (record.peak_share > 0) text += fmt::format("  {:.0f} % of the machine", 100 * record.peak_share);
        return text;
    }

    Status save() {
        if (!on_disk()) return {};
        RETORT_CHECK(save_checkpoint(last_file(), header_, loop_.trainee));
        if (world().is_first()) RETORT_CHECK(write_metrics(options_.folder, header_.curve));
        last_saved_ = base::monotonic_seconds();
        return {};
    }

    // The student's weights become those of the best measurement.
    Status keep_best() {
        if (!watched() || watch_.best_step == 0 || watch_.best_step == header_.steps) return {};
        RETORT_TRY(const CheckpointHeader best,
                   load_checkpoint(best_file(), loop_.fingerprint, loop_.trainee));
        if (best.steps != watch_.best_step) {
            return fail(ErrorCode::format,
                        "{}: it is of step {}, the best was {}; delete {} and it to train again",
                        best_file().string(), best.steps, watch_.best_step, last_file().string());
        }
        spdlog::info("{}: {} after step {}; the weights of step {} are kept (held-out loss {:.4f})",
                     options_.label, out_of_patience() ? "stopped" : "ended", header_.steps, watch_.best_step,
                     watch_.best);
        return {};
    }

    [[nodiscard]] TrainReport report() const {
        TrainReport report;
        for (const StepRecord& record : header_.curve) {
            report.tokens += record.tokens;
            report.trained_tokens += record.trained_tokens;
            report.seconds += record.seconds;
            report.cpu_seconds += record.cpu_seconds;
            report.flop += record.flop;
        }
        report.steps = header_.steps;
        report.best_step = watch_.best_step;
        report.resumed_from = resumed_from_;
        report.curve = header_.curve;
        report.gflops = report.seconds > 0 ? report.flop / report.seconds / 1e9 : 0;
        return report;
    }

    const StepLoop& loop_;
    const TrainOptions& options_;
    Schedule schedule_;
    CheckpointHeader header_;
    HeldOutWatch watch_;
    std::optional<EventFile> events_;
    base::Progress progress_;
    std::int64_t resumed_from_ = 0;
    std::int64_t not_finite_ = 0;
    double last_saved_ = base::monotonic_seconds();
};

}  // namespace

HeldOutWatch watch_held_out(std::span<const StepRecord> curve) {
    HeldOutWatch watch;
    for (const StepRecord& record : curve) {
        if (!record.held_out) continue;
        const bool better =
            std::isfinite(*record.held_out) && (watch.best_step == 0 || *record.held_out < watch.best);
        if (better) {
            watch = {record.step, *record.held_out, 0};
        } else {
            ++watch.since;
        }
    }
    return watch;
}

Result<TrainReport> run_steps(const StepLoop& loop) {
    return Running(loop).go();
}

}  // namespace retort::train
