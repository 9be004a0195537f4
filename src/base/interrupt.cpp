#include "base/interrupt.h"

#include <unistd.h>

#include <csignal>

namespace retort::base {

namespace {
volatile std::sig_atomic_t interrupt_count = 0;

volatile std::sig_atomic_t hangup_count = 0;

void on_hangup(int /*signal*/) {
    hangup_count = 1;
}

void on_signal(int signal) {
    if (interrupt_count >= 1) ::_exit(128 + signal);
    interrupt_count = 1;
}
}  // namespace

void install_interrupt_handler() {
    struct sigaction action {};
    action.sa_handler = on_signal;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, nullptr);
    sigaction(SIGTERM, &action, nullptr);
    std::signal(SIGPIPE, SIG_IGN);
    std::signal(SIGXFSZ, SIG_IGN);  // a file-size limit is then an error of write(), with the file's name
}

bool interrupted() {
    return interrupt_count > 0;
}

void install_hangup_handler() {
    struct sigaction action {};
    action.sa_handler = on_hangup;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigaction(SIGHUP, &action, nullptr);
}

bool take_hangup() {
    if (hangup_count == 0) return false;
    hangup_count = 0;
    return true;
}

void set_interrupted(bool value) {
    interrupt_count = value ? 1 : 0;
}

}  // namespace retort::base
