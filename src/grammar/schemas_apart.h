// Whether two schemas exclude each other, which 'oneOf' needs: a grammar of both would otherwise allow what
// fits both. Knows no grammar.
#pragma once

#include "grammar/json_grammar.h"

namespace retort::grammar {

// Whether no value can fit both, as far as types and constant properties tell. `root`: what references lead
// into.
bool are_apart(const Json& root, const Json& first, const Json& second);

}  // namespace retort::grammar
