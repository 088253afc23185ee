// The statistics segment of the process's machine: made, filled, and its mailbox served.
//
// States.   none -> made (stat_start, while the machine starts) -> gone with the process. In the child of a fork: none, since its watch
//           reads as zero, until stat_fork_child() puts one of its own where the parent's was. A child without fork handlers has none.
// What.     `taken_pages` is true after every slow path (page_alloc/watch.cpp). All other figures are written when somebody asks, and
//           otherwise now and then (there, too). A new segment has the budget only; a child's first figures are its parent's last ones.
// Locks.    `busy` is tried only: one thread publishes and serves, others go on. It holds no lock of the machine; figures take those that
//           snapshots take.
// Contexts. Making it: the machine's start and fork's child handler, raw system calls. Serving: at the end of slow paths that may sleep,
//           with no lock held and no slow path below; a handler that interrupts it finds it busy.
// Ordering. pairs: stat_request - see page_alloc/watch.cpp. pairs: stat_served - the answer is there before its number.
//           pairs: stat_sequence - odd while figures are written, as in a seqlock. pairs: stat_busy - who serves next sees what was served.
// Kernel.   The texts are those of its /proc; parameters that change at run time do so in /proc/sys there.
// Tests.    tests/unit/debug/stat_test.cpp, tests/programs/kmem_stat.py
#include <new>

#include "debug/debug.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

struct served_text {
  const char* name;
  size_t (*write)(machine& m, char* buffer, size_t capacity) noexcept;
};
size_t write_areas(machine& m, char* buffer, size_t capacity) noexcept { return write_vmallocinfo(m, buffer, capacity, write_raw_pc); }
constexpr served_text texts[] = {{"slabinfo", write_slabinfo}, {"buddyinfo", write_buddyinfo}, {"zoneinfo", write_zoneinfo},
                                 {"vmstat", write_vmstat},     {"meminfo", write_meminfo},     {"vmallocinfo", write_areas}};

bool same(const char* a, const char* b) noexcept {
  while (*a != '\0' && *a == *b) ++a, ++b;
  return *a == *b;
}

void copy_text(char* to, size_t capacity, const char* from) noexcept { text_writer(to, capacity).str(from); }

// ---- figures --------------------------------------------------------------------------------------------------------------------

/// In pages. A snapshot would count the free runs of every block, which takes a hundred times as long.
void add_zones(machine& m, stat::figures& f) noexcept {
  uint64_t taken_pages = 0;
  for (const zone& z : m.zones) {
    if (z.nr_blocks == 0) continue;
    const uint64_t taken = z.taken.load_relaxed(), managed = z.managed.load_relaxed();
    taken_pages += taken;
    f.free += managed > taken ? managed - taken : 0;
    for (uint32_t cpu = 0; cpu < m.nr_cpus; ++cpu) f.in_cpu_lists += z.per_cpu[cpu].nr_pages.load_relaxed();
    f.backed += z.committed.load_relaxed();
    f.reserve += z.reserve.nr_pages.load_relaxed();
    f.reserve_wanted += z.reserve_target.load_relaxed();
    f.charged_peak += z.taken_peak.load_relaxed();
  }
  f.pool = m.memalloc_pool.nr_pages.load_relaxed();
  const uint64_t not_charged = f.in_cpu_lists + f.pool;
  f.charged = taken_pages > not_charged ? taken_pages - not_charged : 0;
}

/// Return: bytes of objects that are out.
uint64_t add_caches(machine& m, stat::segment& to, stat::figures& f, uint64_t& slab_bytes) noexcept {
  uint64_t objects = 0, rows = 0;
  cache_info info;
  for (unsigned i = 0; read_cache_info(m, i, info); ++i) {
    ++f.nr_caches;
    f.refills += info.refills;
    f.flushes += info.flushes;
    const uint64_t bytes = info.slabs * info.pages_per_slab * page_size;
    objects += info.active * info.size;
    slab_bytes += bytes;
    if (rows == stat::max_caches || (info.total == 0 && info.refills == 0)) continue;
    stat::cache_row& row = to.caches[rows++];
    copy_text(row.name, sizeof row.name, info.name);
    row.size = info.size;
    row.active = info.active;
    row.total = info.total;
    row.in_arrays = info.in_arrays + info.in_barn;
    row.slab_bytes = bytes;
    row.refills = info.refills;
  }
  to.nr_cache_rows = rows;
  return objects;
}

void write_figures(machine& m, stat::segment& to, uint64_t now) noexcept {
  stat::figures f{};
  add_zones(m, f);
  uint64_t slab_bytes = 0;
  const uint64_t objects = add_caches(m, to, f, slab_bytes);
  for (uint64_t* pages : {&f.charged, &f.in_cpu_lists, &f.pool, &f.backed, &f.free, &f.reserve, &f.reserve_wanted, &f.charged_peak})
    *pages <<= page_shift;
  f.time_ns = now;
  f.budget = bytes(budget_now(m));
  f.metadata = m.metadata_pages.load_relaxed() << page_shift;
  f.live = objects + (f.charged > slab_bytes ? f.charged - slab_bytes : 0);
  f.failures = m.failure_sequence.load_relaxed();
  f.reclaimed = (m.stats.pgsteal_direct.load_relaxed() + m.kswapd.pgsteal_kswapd.load_relaxed()) << page_shift;
  page_alloc_totals totals{};
  page_alloc_read_totals(m, totals);
  f.pages_allocated = totals.pgalloc;
  f.pages_freed = totals.pgfree;
  f.threads = plat::single_threaded() ? 1 : 0;
  to.now = f;
  struct rows {
    stat::segment& to;
    uint64_t n = 0;
  } counters{to};
  for_each_counter(m, &counters, [](void* context, const char* name, uint64_t value) noexcept {
    auto& r = *static_cast<rows*>(context);
    if (r.n == stat::max_counters) return;
    copy_text(r.to.counters[r.n].name, sizeof r.to.counters[r.n].name, name);
    r.to.counters[r.n++].value = value;
  });
  to.nr_counters = counters.n;
}

void publish(machine& m, stat_watch& watch, stat::segment& to) noexcept {
  const uint64_t now = plat::now_ns();
  watch.published_ns.store_relaxed(now);
  atomic<uint64_t>& sequence = shared_word(to.sequence);
  const uint64_t before = sequence.load_relaxed() & ~uint64_t{1};
  sequence.exchange_acq_rel(before + 1);  // pairs: stat_sequence
  write_figures(m, to, now);
  sequence.store_release(before + 2);  // pairs: stat_sequence
}

// ---- requests -------------------------------------------------------------------------------------------------------------------

/// What was asked for, copied once: the asker may write at any time.
struct request_copy {
  stat::command what = stat::command::none;
  char argument[sizeof stat::segment::argument + 1] = {};
};

/// Return: false if somebody has begun to ask for something else meanwhile.
bool copy_request(stat::segment& segment, uint32_t number, request_copy& to) noexcept {
  const uint32_t what = shared_word(segment.what).load_acquire();  // pairs: stat_request
  to.what = static_cast<stat::command>(what);
  for (size_t i = 0; i < sizeof segment.argument; i += sizeof(uint64_t)) {
    const uint64_t word = shared_word(*reinterpret_cast<uint64_t*>(segment.argument + i)).load_relaxed();
    __builtin_memcpy(to.argument + i, &word, sizeof word);
  }
  // An asker takes `what` back before he writes an argument.
  const bool same_number = shared_word(segment.request).fetch_or_acq_rel(0) == number;  // pairs: stat_request
  return shared_word(segment.what).load_relaxed() == what && same_number;
}

stat::reply serve_text(machine& m, const char* name, char* out, size_t capacity, size_t& length) noexcept {
  for (const served_text& text : texts) {
    if (!same(text.name, name)) continue;
    length = text.write(m, out, capacity);
    return stat::reply::done;
  }
  text_writer error(out, capacity);
  error.str(name).str(": there is no such text; there are");
  for (const served_text& text : texts) error.ch(' ').str(text.name);
  length = error.length();
  return stat::reply::unknown;
}

stat::reply serve_trim(machine& m, char* out, size_t capacity, size_t& length) noexcept {
  (void)drain_caches(m, true);
  (void)drain_cpu_pages(m, true);
  const uint64_t pages = give_back(m, ~uint64_t{0}, true);
  text_writer text(out, capacity);
  length = text.dec(pages << page_shift).length();
  return stat::reply::done;
}

stat::reply answer(machine& m, const request_copy& asked, char* out, size_t& length) noexcept {
  constexpr size_t capacity = stat::text_bytes;
  switch (asked.what) {
    case stat::command::none:
    case stat::command::refresh:
      length = 0;
      return stat::reply::done;
    case stat::command::text:
      return serve_text(m, asked.argument, out, capacity, length);
    case stat::command::get:
      return show_parameter(m, asked.argument, out, capacity, length);
    case stat::command::set:
      return change_parameter(m, asked.argument, out, capacity, length);
    case stat::command::trim:
      return serve_trim(m, out, capacity, length);
  }
  length = text_writer(out, capacity).str("a request of an unknown kind: kmem is newer than the process's library").length();
  return stat::reply::unknown;
}

void serve_request(machine& m, stat_watch& watch, stat::segment& segment, uint32_t number, stat::server by) noexcept {
  request_copy asked;
  if (!copy_request(segment, number, asked)) return;
  size_t length = 0;
  char* const out = reinterpret_cast<char*>(&segment) + stat::text_offset;
  const stat::reply result = answer(m, asked, out, length);
  publish(m, watch, segment);
  shared_word(segment.status).store_relaxed(static_cast<uint32_t>(result));
  shared_word(segment.served_by).store_relaxed(static_cast<uint32_t>(by));
  shared_word(segment.reply_bytes).store_relaxed(length);
  watch.seen.store_relaxed(number);
  shared_word(segment.served).store_release(number);  // pairs: stat_served
}

void serve(page_allocator& pa, stat_watch& watch, stat::server by) noexcept {
  if (watch.busy.exchange_acquire(1) != 0) return;  // pairs: stat_busy
  stat::segment* const segment = watch.segment.load_relaxed();
  if (segment != nullptr) {
    auto& m = static_cast<machine&>(pa);
    const uint32_t number = shared_word(segment->request).load_acquire();  // pairs: stat_request
    if (number != watch.seen.load_relaxed())
      serve_request(m, watch, *segment, number, by);
    else
      publish(m, watch, *segment);
  }
  watch.busy.store_release(0);  // pairs: stat_busy
}

// ---- making it ------------------------------------------------------------------------------------------------------------------

void read_command_line(stat::segment& s) noexcept {
  long length = plat::read_file("/proc/self/cmdline", s.command_line, sizeof s.command_line);
  while (length > 0 && s.command_line[length - 1] == '\0') --length;
  for (long i = 0; i < length; ++i)
    if (s.command_line[i] == '\0') s.command_line[i] = ' ';
}

/// What a child takes over from its parent.
struct inheritance {
  stat::figures now{};
  char command_line[sizeof stat::segment::command_line] = {};
};

/// Makes a segment, in the place of the parent's if there is one, and tells slow paths of it.
void begin(machine& m, stat_watch& watch, stat::segment* parents) noexcept {
  inheritance from;
  if (parents != nullptr) {
    from.now = parents->now;
    __builtin_memcpy(from.command_line, parents->command_line, sizeof from.command_line);
  }
  const bool keep = m.config.stat_keep != 0 && m.config.stat_keep == plat::process_id();
  auto* const segment = static_cast<stat::segment*>(plat::make_segment(stat::segment_bytes, parents, keep));
  if (segment == nullptr) return;
  segment->version = stat::segment_version;
  segment->bytes = stat::segment_bytes;
  segment->pid = plat::process_id();
  segment->created_ns = plat::since_boot_ns();
  segment->now = from.now;
  segment->now.budget = bytes(budget_now(m));
  if (parents != nullptr)
    __builtin_memcpy(segment->command_line, from.command_line, sizeof from.command_line);
  else
    read_command_line(*segment);
  watch.serve = serve;
  uint64_t taken = 0;
  for (const zone& z : m.zones) taken += z.taken.load_relaxed();
  shared_word(segment->taken_pages).store_relaxed(taken);
  shared_word(segment->magic).store_release(stat::segment_magic);  // pairs: stat_sequence
  watch.published_ns.store_relaxed(plat::now_ns());
  watch.segment.store_relaxed(segment);
  m.stat_segment = segment;
}

}  // namespace

void stat_start(machine& m) noexcept {
  if (!m.config.stat || m.watch.load_relaxed() != nullptr) return;
  constexpr uint64_t cost = 1 + (stat::text_offset >> page_shift);  // the watch, and what of the segment is always touched
  void* const page = plat::map_wiped_on_fork();
  if (page == nullptr) return;
  if (!charge_metadata(m, cost)) return plat::unmap(page, page_size);
  auto* const watch = new (page) stat_watch;
  begin(m, *watch, nullptr);
  m.watch.store_relaxed(watch);
}

void stat_fork_child(machine& m) noexcept {
  stat_watch* const watch = m.watch.load_relaxed();
  if (watch == nullptr || m.stat_segment == nullptr) return;
  stat::segment* const parents = m.stat_segment;
  m.stat_segment = nullptr;
  begin(m, *watch, parents);
  if (m.stat_segment == nullptr) plat::drop_segment(parents);
}

void stat_publish(machine& m) noexcept {
  stat_watch* const watch = m.watch.load_relaxed();
  if (watch == nullptr || watch->busy.exchange_acquire(1) != 0) return;  // pairs: stat_busy
  stat::segment* const segment = watch->segment.load_relaxed();
  if (segment != nullptr && current().depth == 0) publish(m, *watch, *segment);
  watch->busy.store_release(0);  // pairs: stat_busy
}

void stat_process_child() noexcept {
  machine& m = process.object;
  if (process.state.load_relaxed() == machine_state::serving) return stat_fork_child(m);
  if (m.stat_segment != nullptr) plat::drop_segment(m.stat_segment);
  m.stat_segment = nullptr;
}

void stat_process_exit() noexcept {
  const machine& m = process.object;
  if (process.state.load_acquire() != machine_state::serving) return;  // pairs: machine_state
  if (m.config.stat_keep != 0 && m.config.stat_keep == plat::process_id()) stat_publish(process.object);
}

}  // inline namespace
}  // namespace kmem
