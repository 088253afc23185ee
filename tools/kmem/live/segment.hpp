#pragma once

// The statistics segments of living processes: found, checked, read, asked. What is in one is another process's word: every count is
// bounded, every text is made printable, and nothing is read twice.

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <kmem/stat_segment.hpp>
#include <optional>
#include <string>
#include <vector>

namespace kmem::tool::live {

// A row of /proc/sysvipc/shm that may be a statistics segment.
struct candidate {
  int id = -1;
  pid_t maker = 0;
  uid_t owner = 0;
  std::uint64_t bytes = 0, attached = 0;
};
std::vector<candidate> list_candidates(const std::string& proc_text);

struct counter {
  std::string name;
  std::uint64_t value = 0;
};
struct cache {
  std::string name;
  std::uint64_t size = 0, active = 0, total = 0, in_arrays = 0, slab_bytes = 0, refills = 0;
};
// One process at one moment.
struct view {
  pid_t pid = 0;
  std::string command;
  std::uint64_t created_ns = 0;
  std::uint64_t taken_bytes = 0, events = 0;  // true now
  stat::figures figures{};                    // as of figures.time_ns
  bool torn = false;                          // the figures were being written at every attempt to read them
  bool service_thread = false;
  std::uint32_t request = 0, served = 0, served_by = 0;
  std::vector<counter> counters;
  std::vector<cache> caches;

  // Charged now, but for what has moved between the CPUs' lists and the program since the figures were taken.
  std::uint64_t charged_now() const;
  std::uint64_t age_ns(std::uint64_t now_ns) const { return now_ns > figures.time_ns ? now_ns - figures.time_ns : 0; }
};
std::uint64_t now_ns();

// Text of another process for a terminal: line ends become blanks, other control characters and what is no UTF-8 '?'.
std::string printable(const char* text, std::size_t capacity);

// Reads a segment that is mapped. Return: why it cannot be one, or nothing.
std::optional<std::string> read_view(const stat::segment& segment, view& result);

struct reply {
  stat::reply status = stat::reply::done;
  std::string text;
  bool cut = false;  // there was more of it than there is room for
};
enum class ask_end : std::uint8_t { served, waiting, busy, gone };

// An attached segment.
class attachment {
 public:
  // Return: false, with `error` set.
  bool attach(const candidate& from, std::string& error);
  attachment() = default;
  ~attachment();
  attachment(attachment&& other) noexcept;
  attachment& operator=(attachment&& other) noexcept;
  attachment(const attachment&) = delete;
  attachment& operator=(const attachment&) = delete;

  bool attached() const { return segment_ != nullptr; }
  bool read(view& result, std::string& error) const;
  // Asks and waits. waiting: nobody has served it yet, it lies there until the process's next slow path. busy: another request lies there
  // that must not be lost, described in `out.text`. gone: the process has ended.
  ask_end ask(stat::command what, const std::string& argument, std::chrono::milliseconds patience, reply& out);
  const candidate& from() const { return from_; }

 private:
  stat::segment* segment_ = nullptr;
  candidate from_;
};

// A process as /proc shows it.
struct process_identity {
  bool exists = false, zombie = false;
  std::uint64_t started_ns = 0;  // CLOCK_BOOTTIME, cut to the system's ticks
  uid_t owner = 0;
};
process_identity identify(pid_t pid);

struct live_process {
  attachment segment;
  view last;
};
// All processes that show their figures and may be read by this user. Segments that dead ones have left behind are removed.
std::vector<live_process> find_processes();
// The one of this process. Return: false, with what is wrong and what to do in `error`.
bool find_process(pid_t pid, live_process& result, std::string& error);
// The last figures of a process that has ended, if it kept them; its segments are removed.
bool take_left_behind(pid_t pid, view& result);

}  // namespace kmem::tool::live
