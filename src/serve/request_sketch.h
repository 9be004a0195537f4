// A request's JSON as the guard's sketch sees it: which message is the scaffold's likely home, which the
// question. Private to this part.
#pragma once

#include <simdjson.h>

#include <string>

#include "guard/sketch.h"

namespace retort::serve {

// Empty for a body that has neither messages nor a prompt of text.
std::string sketch_request(const guard::SketchKey& key, const simdjson::dom::object& body);

}  // namespace retort::serve
