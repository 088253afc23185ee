#pragma once

// The allocator's own messages during a replay. Failure reports are expected under a small budget and only counted;
// what it calls an error (a bad free, a broken context rule) is kept and becomes an error of the replay.

#include <cstdint>
#include <string>
#include <vector>

namespace kmem::tool::replay {

// While it lives, messages do not go to stderr. One at a time in a process.
class message_collector {
 public:
  message_collector();
  ~message_collector();
  message_collector(const message_collector&) = delete;
  message_collector& operator=(const message_collector&) = delete;

  // Messages of warnings and worse.
  std::uint64_t warnings() const;
  // Errors and worse, and the first of them: their first lines.
  std::uint64_t errors() const;
  std::vector<std::string> first_errors() const;
};

}  // namespace kmem::tool::replay
