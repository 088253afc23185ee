#pragma once

// Writing a finished report to where the user asked for it.

#include <optional>
#include <string>
#include <string_view>

namespace kmem::tool::report {

// Writes `text` to `path`, replacing what was there.
// Return: nothing when every byte is written, else one line that names the file, the reason and what to do.
[[nodiscard]] std::optional<std::string> write_report(const std::string& path, std::string_view text);

}  // namespace kmem::tool::report
