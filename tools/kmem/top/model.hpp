#pragma once

// What `kmem top` shows, without a terminal: rows, rates between two looks, order, and lines of a given width.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "live/segment.hpp"

namespace kmem::tool::top {

// A count in a second; unknown when the process has done something since the last look, but has not written how much.
struct rate {
  bool known = false;
  double per_second = 0;
};

struct process_row {
  pid_t pid = 0;
  std::string command;
  std::uint64_t budget = 0, charged = 0, live = 0, reserve = 0, nulls = 0;
  std::uint64_t age_ns = 0;  // of all but charged
  bool live_known = false;
  rate refills, pages;
};
struct cache_row {
  std::string name;
  std::uint64_t size = 0, active = 0, total = 0, in_arrays = 0, slab_bytes = 0;
  rate refills;
};

// One look at all processes.
struct look {
  std::uint64_t time_ns = 0;
  std::vector<live::view> views;
};

class model {
 public:
  void take(look now);  // the one before is what rates are measured from
  const std::vector<process_row>& processes() const { return processes_; }
  std::vector<cache_row> caches(pid_t pid) const;
  const live::view* find(pid_t pid) const;
  std::uint64_t time_ns() const { return now_.time_ns; }

 private:
  look now_;
  std::map<pid_t, live::view> before_;  // the look before, of programs that still run
  std::vector<process_row> processes_;
};

enum class column : std::uint8_t { pid, budget, charged, use, live, reserve, nulls, refills, pages, command };
inline constexpr unsigned nr_columns = 10;
const char* column_name(column which);                 // as --sort takes it
bool find_column(const std::string& name, column& result);
// In the order that a person wants first: numbers from the largest down, the pid and the command up.
void sort_processes(std::vector<process_row>& rows, column by, bool reversed);

// Texts without line ends, cut to `width` columns; 0: not cut.
std::string process_header(column sorted_by, std::size_t width);
std::string process_line(const process_row& row, std::size_t width);
std::string cache_header(std::size_t width);
std::string cache_line(const cache_row& row, std::size_t width);
std::string title(const std::vector<process_row>& rows, const std::string& clock, double delay_seconds, std::size_t width);

std::string fitted(const std::string& text, std::size_t width);
// With '?' for what is not ASCII.
std::string ascii(const std::string& text);

// At most five characters with a unit: "987B", "12.3K", "1.50G".
std::string short_bytes(std::uint64_t bytes);

}  // namespace kmem::tool::top
