// What a Python wheel adds to a zip archive: a .dist-info folder, and in it RECORD, a table (CSV) of every
// file's hash. Knows nothing of models.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "base/hash.h"
#include "formats/zip.h"

namespace retort::formats {

// "pkg-1.0.dist-info/FILE" at the top of the archive; null where there is none.
const ZipEntry* find_wheel_info(const ZipArchive& wheel, std::string_view file);

// Name → SHA-256. Files without a hash (RECORD itself) or with another kind of hash are left out; what calls
// itself sha256 and is none is an error.
using WheelHashes = std::map<std::string, base::Sha256, std::less<>>;
Result<WheelHashes> parse_wheel_record(std::string_view text, std::string_view name = "RECORD");
Result<WheelHashes> read_wheel_record(ZipArchive& wheel);

}  // namespace retort::formats
