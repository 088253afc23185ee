#pragma once

// One process's figures as text and as JSON.

#include <nlohmann/json.hpp>
#include <string>

#include "live/segment.hpp"
#include "report/text.hpp"

namespace kmem::tool::live {

// Why figures are old, for a person; empty if they are not: younger than `fresh_ns`.
std::string age_note(const view& v, std::uint64_t now, std::uint64_t fresh_ns = 1'000'000'000);

std::string summary_text(const view& v, std::uint64_t now, const report::text_options& options);

// Bytes where a name says nothing else. The keys are stable: they may be relied upon.
nlohmann::ordered_json summary_json(const view& v, std::uint64_t now);

}  // namespace kmem::tool::live
