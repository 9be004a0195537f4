// Ctrl-C and SIGTERM as a flag that long jobs poll between units of work; a second Ctrl-C ends the process at
// once.
#pragma once

namespace retort::base {

void install_interrupt_handler();
bool interrupted();
// For tests, and for a server that turns a signal into a drain.
void set_interrupted(bool value);

// SIGHUP as a flag, for what reads its files anew; without this it ends the process.
void install_hangup_handler();
// Whether one came since the last call.
bool take_hangup();

}  // namespace retort::base
