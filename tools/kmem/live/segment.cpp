// Reading: copied field by field, once; figures are read again while their sequence says that they are being written.
// Asking: one asker at a time, by the word `asker`; who has died in there is found by his number. A request that changes something is never
// overwritten, as it may have been promised to somebody.

#include "live/segment.hpp"

#include <linux/futex.h>
#include <signal.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>
#include <utility>

namespace kmem::tool::live {

namespace {

constexpr unsigned read_attempts = 100;
constexpr std::chrono::milliseconds poll_first{1}, poll_most{20};

template <class T>
T load(const T& word) {
  return __atomic_load_n(&word, __ATOMIC_ACQUIRE);  // pairs: stat_served
}
template <class T>
void store(T& word, T value) {
  __atomic_store_n(&word, value, __ATOMIC_RELEASE);  // pairs: stat_request
}
bool replace(std::uint32_t& word, std::uint32_t& expected, std::uint32_t value) {
  return __atomic_compare_exchange_n(&word, &expected, value, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);  // pairs: stat_asker
}

std::uint64_t bounded_product(std::uint64_t pages) { return pages < (~std::uint64_t{0} >> 12) ? pages << 12 : ~std::uint64_t{0}; }

void read_rows(const stat::segment& s, view& v) {
  v.counters.clear();
  v.caches.clear();
  const std::uint64_t counters = std::min<std::uint64_t>(load(s.nr_counters), stat::max_counters);
  for (std::uint64_t i = 0; i < counters; i++) {
    const stat::counter_row row = s.counters[i];
    v.counters.push_back({printable(row.name, sizeof row.name), row.value});
  }
  const std::uint64_t caches = std::min<std::uint64_t>(load(s.nr_cache_rows), stat::max_caches);
  for (std::uint64_t i = 0; i < caches; i++) {
    const stat::cache_row row = s.caches[i];
    v.caches.push_back({printable(row.name, sizeof row.name), row.size, row.active, row.total, row.in_arrays, row.slab_bytes, row.refills});
  }
}

}  // namespace

std::uint64_t now_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(t.tv_nsec);
}

std::uint64_t view::charged_now() const {
  const std::uint64_t not_charged = figures.in_cpu_lists + figures.pool;
  return taken_bytes > not_charged ? taken_bytes - not_charged : 0;
}

std::string printable(const char* text, std::size_t capacity) {
  std::string result;
  for (std::size_t i = 0; i < capacity && text[i] != '\0';) {
    const auto c = static_cast<unsigned char>(text[i]);
    const std::size_t length = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
    bool good = length != 0 && i + length <= capacity && c >= 0x20 && c != 0x7f;
    for (std::size_t k = 1; good && k < length; k++) good = (static_cast<unsigned char>(text[i + k]) & 0xc0) == 0x80;
    // C1 controls, too: U+0080 to U+009F.
    if (good && length == 2 && c == 0xc2 && static_cast<unsigned char>(text[i + 1]) < 0xa0) good = false;
    if (good)
      result.append(text + i, length);
    else
      result += c == '\n' || c == '\t' ? ' ' : '?';
    i += good ? length : 1;
  }
  return result;
}

std::optional<std::string> read_view(const stat::segment& s, view& v) {
  if (load(s.magic) != stat::segment_magic) return "it is no statistics segment";
  const std::uint32_t version = s.version;
  if (version != stat::segment_version) {
    return "its segment has the version " + std::to_string(version) + ", and this kmem understands " +
           std::to_string(stat::segment_version) + " only: use the kmem that belongs to its library";
  }
  if (s.bytes != stat::segment_bytes) return "its segment says that it has another size than it has";
  v = {};
  const std::uint32_t pid = s.pid;
  if (pid > 0x7fffffff) return "its segment speaks of a process with an impossible number";
  v.pid = static_cast<pid_t>(pid);
  v.created_ns = s.created_ns;
  v.command = printable(s.command_line, sizeof s.command_line);
  v.taken_bytes = bounded_product(load(s.taken_pages));
  v.events = load(s.events);
  v.request = load(s.request);
  v.served = load(s.served);
  v.served_by = load(s.served_by);
  v.service_thread = load(s.service_thread) != 0;
  v.torn = true;
  for (unsigned attempt = 0; attempt < read_attempts && v.torn; attempt++) {
    const std::uint64_t before = load(s.sequence);
    v.figures = s.now;
    read_rows(s, v);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);  // pairs: stat_sequence
    v.torn = before % 2 != 0 || load(s.sequence) != before;
    if (v.torn) std::this_thread::yield();
  }
  return std::nullopt;
}

// ---- an attached segment ----------------------------------------------------------------------------------------------------

bool attachment::attach(const candidate& from, std::string& error) {
  void* const where = shmat(from.id, nullptr, 0);
  if (where == reinterpret_cast<void*>(-1)) {
    error = std::string("its segment cannot be attached to: ") + std::strerror(errno);
    return false;
  }
  attachment taken;
  taken.segment_ = static_cast<stat::segment*>(where);
  taken.from_ = from;
  // The row may be of an older segment with the same number.
  shmid_ds now{};
  if (shmctl(from.id, IPC_STAT, &now) != 0 || now.shm_segsz != stat::segment_bytes || now.shm_cpid != from.maker) {
    error = "its segment has just gone";
    return false;
  }
  *this = std::move(taken);
  return true;
}

attachment::~attachment() {
  if (segment_ != nullptr) shmdt(segment_);
}

attachment::attachment(attachment&& other) noexcept : segment_(std::exchange(other.segment_, nullptr)), from_(other.from_) {}

attachment& attachment::operator=(attachment&& other) noexcept {
  std::swap(segment_, other.segment_);
  std::swap(from_, other.from_);
  return *this;
}

bool attachment::read(view& result, std::string& error) const {
  if (const auto wrong = read_view(*segment_, result)) {
    error = *wrong;
    return false;
  }
  if (result.pid == from_.maker) return true;
  error = "its segment speaks of another process than the one that made it";
  return false;
}

namespace {

bool is_alive(std::uint32_t pid) { return pid <= 0x7fffffff && (kill(static_cast<pid_t>(pid), 0) == 0 || errno == EPERM); }

// Return: whether this process is the asker now.
bool become_asker(stat::segment& s, std::chrono::steady_clock::time_point until) {
  const auto me = static_cast<std::uint32_t>(getpid());
  for (;;) {
    std::uint32_t holder = 0;
    if (replace(s.asker, holder, me)) return true;
    if (!is_alive(holder) && replace(s.asker, holder, me)) return true;
    if (std::chrono::steady_clock::now() >= until) return false;
    std::this_thread::sleep_for(poll_first);
  }
}

bool must_not_be_lost(const stat::segment& s) {
  const auto what = static_cast<stat::command>(load(s.what));
  return load(s.request) != load(s.served) && (what == stat::command::set || what == stat::command::trim);
}

std::string describe_pending(const stat::segment& s) {
  if (static_cast<stat::command>(load(s.what)) == stat::command::trim) return "trim";
  return printable(s.argument, sizeof s.argument);
}

std::uint32_t post(stat::segment& s, stat::command what, const std::string& argument) {
  store(s.what, static_cast<std::uint32_t>(stat::command::none));
  __atomic_thread_fence(__ATOMIC_SEQ_CST);  // pairs: stat_request
  std::memset(s.argument, 0, sizeof s.argument);
  std::memcpy(s.argument, argument.data(), std::min(argument.size(), sizeof s.argument - 1));
  store(s.what, static_cast<std::uint32_t>(what));
  const std::uint32_t number = load(s.request) + 1;
  store(s.request, number);
  syscall(SYS_futex, &s.request, FUTEX_WAKE, 1, nullptr, nullptr, 0);
  return number;
}

bool wait_until_served(const stat::segment& s, std::uint32_t number, const candidate& from, std::chrono::steady_clock::time_point until,
                       bool& gone) {
  for (auto pause = poll_first;; pause = std::min(pause * 2, poll_most)) {
    if (load(s.served) == number) return true;
    gone = !is_alive(static_cast<std::uint32_t>(from.maker)) || identify(from.maker).zombie;
    if (gone || std::chrono::steady_clock::now() >= until) return load(s.served) == number;
    std::this_thread::sleep_for(pause);
  }
}

}  // namespace

ask_end attachment::ask(stat::command what, const std::string& argument, std::chrono::milliseconds patience, reply& out) {
  stat::segment& s = *segment_;
  const auto until = std::chrono::steady_clock::now() + patience;
  bool gone = false;
  if (!become_asker(s, until + poll_most)) {
    out.text = "somebody else is asking";
    return ask_end::busy;
  }
  ask_end end = ask_end::waiting;
  // Whatever is served, all figures are published with it.
  const bool join = load(s.request) != load(s.served) && what == stat::command::refresh;
  if (!join && must_not_be_lost(s)) {
    if (!wait_until_served(s, load(s.request), from_, until, gone)) {
      out.text = describe_pending(s);
      end = gone ? ask_end::gone : ask_end::busy;
    }
  }
  if (end != ask_end::busy && !gone) {
    const std::uint32_t number = join ? load(s.request) : post(s, what, argument);
    if (wait_until_served(s, number, from_, until, gone)) {
      end = ask_end::served;
      out.status = static_cast<stat::reply>(load(s.status));
      const std::uint64_t wanted = load(s.reply_bytes);
      out.cut = wanted >= stat::text_bytes;
      const auto* const text = reinterpret_cast<const char*>(&s) + stat::text_offset;
      out.text.assign(text, join ? 0 : std::min<std::uint64_t>(wanted, stat::text_bytes - 1));
    } else if (gone) {
      end = ask_end::gone;
    }
  }
  store(s.asker, std::uint32_t{0});
  return end;
}

}  // namespace kmem::tool::live
