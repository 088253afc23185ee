// Which segments there are, and whose. The system vouches for a segment's maker and owner; the rest is checked against /proc.

#include <sys/shm.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>
#include <thread>

#include "live/segment.hpp"

namespace kmem::tool::live {

namespace {

std::string read_text(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// The n-th word (from 0) of a line as a number. Return: nothing if there is none.
std::optional<std::uint64_t> word_number(const std::string& line, unsigned n) {
  std::istringstream words(line);
  std::string word;
  for (unsigned i = 0; i <= n; i++)
    if (!(words >> word)) return std::nullopt;
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error != std::errc{} || end != word.data() + word.size()) return std::nullopt;
  return value;
}

std::vector<candidate> candidates() { return list_candidates(read_text("/proc/sysvipc/shm")); }

// Is the segment of the process that has this number now?
bool belongs_to(const view& v, const candidate& from, const process_identity& process) {
  const bool right_owner = from.owner == 0 || from.owner == process.owner;
  return process.exists && right_owner && v.created_ns >= process.started_ns;
}

// What a process that kept its last figures has left. Nobody has it attached but us.
void remove_if_left(const candidate& from, const process_identity& process, const view& v) {
  const bool ended = !process.exists || v.created_ns < process.started_ns;
  if (ended && from.attached == 0) shmctl(from.id, IPC_RMID, nullptr);
}

}  // namespace

std::vector<candidate> list_candidates(const std::string& proc_text) {
  std::vector<candidate> result;
  std::istringstream lines(proc_text);
  std::string line;
  std::getline(lines, line);  // key shmid perms size cpid lpid nattch uid ...
  while (std::getline(lines, line)) {
    const auto id = word_number(line, 1), bytes = word_number(line, 3), maker = word_number(line, 4);
    const auto attached = word_number(line, 6), owner = word_number(line, 7);
    if (!id || !bytes || !maker || !attached || !owner || *bytes != stat::segment_bytes || *maker == 0) continue;
    if (*id > 0x7fffffff || *maker > 0x7fffffff) continue;
    result.push_back({static_cast<int>(*id), static_cast<pid_t>(*maker), static_cast<uid_t>(*owner), *bytes, *attached});
  }
  return result;
}

process_identity identify(pid_t pid) {
  process_identity result;
  const std::string folder = "/proc/" + std::to_string(pid);
  struct ::stat about {};
  const std::string text = read_text(folder + "/stat");
  const std::size_t name_end = text.rfind(')');
  if (::stat(folder.c_str(), &about) != 0 || name_end == std::string::npos) return result;
  const std::string rest = text.substr(name_end + 1);  // begins with the third field, the state
  const auto ticks = word_number(rest, 19);
  if (!ticks) return result;
  result.exists = true;
  result.zombie = rest.size() > 1 && (rest[1] == 'Z' || rest[1] == 'X');
  result.started_ns = *ticks * (1'000'000'000 / static_cast<std::uint64_t>(sysconf(_SC_CLK_TCK)));
  result.owner = about.st_uid;
  return result;
}

std::vector<live_process> find_processes() {
  std::vector<live_process> result;
  for (const candidate& each : candidates()) {
    live_process found;
    std::string error;
    if (!found.segment.attach(each, error) || !found.segment.read(found.last, error)) continue;
    const process_identity process = identify(each.maker);
    if (!belongs_to(found.last, each, process) || process.zombie) {
      remove_if_left(each, process, found.last);
      continue;
    }
    // After exec, a child without fork handlers may still have the segment of the program before.
    const auto other = std::find_if(result.begin(), result.end(), [&](const live_process& p) { return p.last.pid == found.last.pid; });
    if (other == result.end())
      result.push_back(std::move(found));
    else if (other->last.created_ns < found.last.created_ns)
      *other = std::move(found);
  }
  return result;
}

namespace {

// Looks through the segments that the process has made. Return: whether one of them is of its present program.
bool search(pid_t pid, const process_identity& process, live_process& result, std::string& wrong) {
  bool found = false;
  for (const candidate& each : candidates()) {
    if (each.maker != pid) continue;
    live_process next;
    std::string error;
    const bool good = next.segment.attach(each, error) && next.segment.read(next.last, error);
    if (good && belongs_to(next.last, each, process) && (!found || next.last.created_ns > result.last.created_ns)) {
      result = std::move(next);
      found = true;
    } else if (!good && wrong.empty()) {
      wrong = error;
    }
  }
  return found;
}

}  // namespace

bool find_process(pid_t pid, live_process& result, std::string& error) {
  constexpr unsigned attempts = 20;
  const std::string who = "process " + std::to_string(pid) + ": ";
  for (unsigned attempt = 0;; attempt++) {
    const process_identity process = identify(pid);
    if (!process.exists || process.zombie) {
      error = "there is no process " + std::to_string(pid);
      return false;
    }
    std::string wrong;
    if (search(pid, process, result, wrong)) return true;
    if (!wrong.empty() && attempt + 1 < attempts) {  // it may be about to fill it, or to be replaced by another program
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      continue;
    }
    if (!wrong.empty()) {
      error = who + wrong;
    } else if (process.owner != geteuid() && geteuid() != 0) {
      error = who + "it belongs to another user; only that user and root may look at it";
    } else {
      error = who + "it shows no figures: it does not run under kmem ('kmem run' starts one that does), or with stat=0, or has not " +
              "allocated anything yet, or the system gave it no shared memory";
    }
    return false;
  }
}

bool take_left_behind(pid_t pid, view& result) {
  bool found = false;
  for (const candidate& each : candidates()) {
    if (each.maker != pid) continue;
    attachment segment;
    view v;
    std::string error;
    if (!segment.attach(each, error) || !segment.read(v, error)) continue;
    shmctl(each.id, IPC_RMID, nullptr);
    if (found && v.created_ns < result.created_ns) continue;
    result = std::move(v);
    found = true;
  }
  return found;
}

}  // namespace kmem::tool::live
