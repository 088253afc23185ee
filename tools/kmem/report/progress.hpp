#pragma once

// One line on a terminal that says how far a replay has come.
//
// For one thread. Nothing is written when the stream is not a terminal, so that logs stay clean.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace kmem::tool::report {

struct progress_state {
  std::uint64_t done = 0;    // in any unit: events, or bytes of the trace
  std::uint64_t whole = 0;   // in the same unit; 0: not known
  std::uint64_t events = 0;  // replayed so far
  std::uint64_t charged_bytes = 0;
  std::uint64_t budget_bytes = 0;
  std::uint64_t failed = 0;
};

class progress_bar {
 public:
  // Writes to `descriptor` (2 is stderr). The clock gives monotonic nanoseconds; tests bring their own.
  explicit progress_bar(int descriptor);
  progress_bar(std::function<void(const std::string&)> write, std::function<std::uint64_t()> clock_ns, std::size_t columns, bool colour,
               bool unicode);
  progress_bar(const progress_bar&) = delete;
  progress_bar& operator=(const progress_bar&) = delete;
  ~progress_bar();  // takes the line away

  // Cheap to call often: draws at most ten times a second.
  void update(const progress_state& state);

  // Takes the line away, so that other output starts on a clean one. The next update draws it again.
  void clear();

  // The line for a state after `elapsed_ns`, never wider than `columns`.
  [[nodiscard]] static std::string line(const progress_state& state, std::uint64_t elapsed_ns, std::size_t columns, bool colour,
                                        bool unicode);

 private:
  std::function<void(const std::string&)> write_;  // empty: no terminal
  std::function<std::uint64_t()> clock_ns_;
  std::size_t columns_ = 80;
  bool colour_ = false;
  bool unicode_ = false;
  bool drawn_ = false;
  bool started_ = false;
  std::uint64_t start_ns_ = 0;
  std::uint64_t last_ns_ = 0;
};

}  // namespace kmem::tool::report
