// A program that uses the public API only, run by the environment tests under limits, without files, forked, locked in memory.
//
//   helper COMMAND [ARGUMENT]     exit 0: what was to be seen was seen; else a line says what was not. Facts are "name=value" lines.
//
// What it holds is linked through the memory itself: under a tight limit the C library's malloc may have nothing to give.
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include <kmem/info.hpp>
#include <kmem/kmem.hpp>

namespace {

using namespace kmem;

#define NEED(condition)                                                       \
  do {                                                                        \
    if (!(condition)) {                                                       \
      fprintf(stderr, "helper: line %d: not so: %s\n", __LINE__, #condition); \
      _exit(1);                                                               \
    }                                                                         \
  } while (false)

void fact(const char* name, uint64_t value) {
  printf("%s=%llu\n", name, static_cast<unsigned long long>(value));
  fflush(stdout);
}

/// What is held: blocks in a chain, each with its length, and bytes that say whose they are.
struct block {
  block* next;
  size_t bytes;
  uint64_t id;
};

class holder {
 public:
  explicit holder(uint64_t seed) : id_(seed << 32) {}
  /// Return: false when memory is exhausted.
  bool take(size_t bytes, gfp_t gfp) {
    if (bytes < sizeof(block)) bytes = sizeof(block);
    auto* const b = static_cast<block*>(kvmalloc(bytes, gfp));
    if (b == nullptr) return false;
    *b = {first_, bytes, ++id_};
    memset(b + 1, static_cast<int>(b->id % 251), bytes - sizeof *b);
    first_ = b;
    held_ += bytes;
    return true;
  }
  bool intact() const {
    for (const block* b = first_; b != nullptr; b = b->next) {
      const auto* at = reinterpret_cast<const unsigned char*>(b + 1);
      for (size_t i = 0; i < b->bytes - sizeof *b; i += i + 64 < b->bytes - sizeof *b ? 61 : 1)
        if (at[i] != b->id % 251) return false;
    }
    return true;
  }
  void overwrite(int value) {
    for (block* b = first_; b != nullptr; b = b->next) memset(b + 1, value, b->bytes - sizeof *b);
  }
  void give_all() {
    NEED(intact());
    while (first_ != nullptr) {
      block* const b = first_;
      first_ = b->next;
      kvfree(b);
    }
    held_ = 0;
  }
  uint64_t held() const { return held_; }

 private:
  block* first_ = nullptr;
  uint64_t id_, held_ = 0;
};

bool is_zero(const char* at, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i)
    if (at[i] != 0) return false;
  return true;
}

/// A bit of everything, checked, and given back.
void serve(uint64_t seed, bool with_vmalloc = true) {
  kmem_cache* const cache = kmem_cache_create("environment", 96, 0, cache_flags::none);
  NEED(cache != nullptr);
  for (unsigned round = 0; round < 3; ++round) {
    holder held(seed);
    for (unsigned i = 0; i < 200; ++i) NEED(held.take(24 + (i * 37 + round * 11) % 3000, i % 3 == 0 ? gfp::atomic : gfp::kernel));
    void* objects[40];
    NEED(kmem_cache_alloc_bulk(cache, gfp::kernel, 40, objects) == 40);
    for (void* const object : objects) memset(object, 0x33, 96);
    auto* const zeroed = static_cast<char*>(get_zeroed_page(gfp::kernel));
    NEED(zeroed != nullptr && is_zero(zeroed, page_bytes));
    page* const pages = alloc_pages(gfp::kernel, 3);
    NEED(pages != nullptr);
    memset(page_address(pages), 0x44, page_bytes << 3);
    if (with_vmalloc) {
      auto* const area = static_cast<char*>(vzalloc(150'000));
      NEED(area != nullptr && is_zero(area, 150'000));
      memset(area, 0x55, 150'000);
      vfree(area);
    }
    for (const void* const object : objects)
      for (unsigned i = 0; i < 96; ++i) NEED(static_cast<const char*>(object)[i] == 0x33);
    free_pages(pages, 3);
    free_pages_at(zeroed, 0);
    kmem_cache_free_bulk(cache, 40, objects);
    held.give_all();
  }
  kmem_cache_destroy(cache);
}

void check_valid() {
  const char* const wrong = validate();
  if (wrong != nullptr) fprintf(stderr, "helper: the walk finds: %s\n", wrong);
  NEED(wrong == nullptr);
}

uint64_t charged() {
  drain();
  memory_info info;
  NEED(read_memory_info(info));
  return info.charged_bytes;
}

void print_budget() {
  memory_info info;
  NEED(read_memory_info(info));
  fact("budget", info.limit_bytes);
}

/// Takes memory until there is none, in three sizes, and gives it back. Return: bytes that were held.
uint64_t exhaust() {
  holder held(99);
  for (const size_t bytes : {size_t{1} << 16, size_t{4000}, size_t{64}})
    while (held.take(bytes, gfp::kernel | gfp::nowarn)) continue;
  const uint64_t got = held.held();
  NEED(kmalloc(1 << 16, gfp::kernel | gfp::nowarn) == nullptr);
  held.give_all();
  return got;
}

// ---- what the system says of this process ------------------------------------------------------------------------------------------

uint64_t status_kib(const char* name) {
  FILE* const file = fopen("/proc/self/status", "re");
  NEED(file != nullptr);
  char line[200];
  unsigned long long kib = 0;
  while (fgets(line, sizeof line, file) != nullptr)
    if (strncmp(line, name, strlen(name)) == 0) kib = strtoull(line + strlen(name) + 1, nullptr, 10);
  fclose(file);
  return kib;
}

void set_limit(int resource, uint64_t bytes) {
  rlimit limit;
  NEED(getrlimit(static_cast<__rlimit_resource>(resource), &limit) == 0);
  limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
  NEED(setrlimit(static_cast<__rlimit_resource>(resource), &limit) == 0);
}

/// From now on these system calls end with `error` and do nothing.
void refuse_calls(const int* numbers, unsigned n, int error) {
  sock_filter filter[40] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
  unsigned length = 1;
  for (unsigned i = 0; i < n; ++i) {
    filter[length++] = BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(numbers[i]), 0, 1);
    filter[length++] = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(error));
  }
  filter[length++] = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  sock_fprog program = {static_cast<unsigned short>(length), filter};
  NEED(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  NEED(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

constexpr int memory_calls[] = {SYS_mmap, SYS_mprotect, SYS_mremap, SYS_memfd_create};
constexpr int advice_calls[] = {SYS_madvise, SYS_munlock};

// ---- commands -----------------------------------------------------------------------------------------------------------------------

void command_serve(const char*) {
  serve(1);
  check_valid();
  print_budget();
}

void command_exhaust(const char*) {
  serve(1);
  const uint64_t before = charged();
  fact("got", exhaust());
  NEED(charged() == before);
  serve(2);
  check_valid();
  print_budget();
  fact("resident", status_kib("VmRSS") << 10);
}

/// Takes what there is, when any call may fail, and gives it back.
void command_exhaust_only(const char*) {
  const uint64_t before = charged();
  fact("got", exhaust());
  NEED(charged() == before);
  check_valid();
}

/// Starting is refused: one message, NULL for everything, frees are harmless. With more room, init() serves.
void command_refused(const char* then) {
  NEED(kmalloc(100, gfp::kernel) == nullptr);
  NEED(kmalloc(100, gfp::atomic) == nullptr && vmalloc(100) == nullptr && alloc_pages(gfp::kernel, 0) == nullptr);
  NEED(get_zeroed_page(gfp::kernel) == nullptr && kmem_cache_create("x", 10, 0, cache_flags::none) == nullptr);
  NEED(remaining_bytes() == 0 && kvmalloc(100'000, gfp::kernel) == nullptr && alloc_pages_exact(5000, gfp::kernel) == nullptr);
  kfree(nullptr);
  vfree(nullptr);
  free_pages_at(nullptr, 0);
  if (then == nullptr) return;
  set_limit(RLIMIT_AS, ~uint64_t{0});
  char error[200];
  if (!init(then, error, sizeof error)) fprintf(stderr, "helper: init: %s\n", error);
  NEED(kmalloc(100, gfp::kernel) != nullptr);
  serve(1);
}

void command_init(const char* parameters) {
  char error[200] = "";
  if (!init(parameters, error, sizeof error)) {
    printf("refused: %s\n", error);
    NEED(error[0] != '\0');
    return;
  }
  serve(1);
  print_budget();
}

/// No mapping, no opening, from the first call on.
void command_no_memory_calls(const char*) {
  refuse_calls(memory_calls, 4, ENOMEM);
  command_refused(nullptr);
}

/// The system stops giving address space while the library serves.
void command_no_memory_calls_later(const char*) {
  serve(1);
  const uint64_t before = charged();
  refuse_calls(memory_calls, 4, ENOMEM);
  const uint64_t got = exhaust();
  fact("got", got);
  NEED(vmalloc(100'000) == nullptr);
  NEED(charged() == before);
  serve(2, false);
  check_valid();
}

/// The system keeps pages that are given back: they stay ours, and are counted.
void command_no_advice(const char*) {
  serve(1);
  const uint64_t before = charged();
  refuse_calls(advice_calls, 2, EPERM);
  fact("got", exhaust());
  NEED(charged() == before);
  serve(2, false);  // an area needs memory that is not in the arena
  NEED(exhaust() != 0);
  check_valid();
}

void command_little_address_space(const char* left) {
  serve(1);
  const uint64_t before = charged();
  set_limit(RLIMIT_AS, (status_kib("VmSize") << 10) + strtoull(left, nullptr, 10));
  fact("got", exhaust());
  NEED(charged() == before);
  serve(2, false);
  set_limit(RLIMIT_AS, ~uint64_t{0});
  serve(3);
  check_valid();
}

void command_locked_before(const char*) {
  NEED(mlockall(MCL_CURRENT | MCL_FUTURE) == 0);
  serve(1);
  fact("resident", status_kib("VmRSS") << 10);
  fact("got", exhaust());
  drain();
  serve(2);
  check_valid();
  fact("after", status_kib("VmRSS") << 10);
  print_budget();
}

void command_locked_after(const char*) {
  holder held(5);
  serve(1);
  NEED(held.take(100'000, gfp::kernel));
  NEED(mlockall(MCL_CURRENT | MCL_FUTURE) == 0);
  fact("resident", status_kib("VmRSS") << 10);
  serve(2);
  fact("got", exhaust());
  drain();
  NEED(held.intact());
  held.give_all();
  serve(3);
  check_valid();
  fact("after", status_kib("VmRSS") << 10);
  print_budget();
}

/// Locked in memory while it serves: sections that are opened later become resident page by page all the same.
void command_locked_then_grows(const char*) {
  holder held(5);
  while (held.held() < (60u << 20)) NEED(held.take(1 << 20, gfp::kernel));
  NEED(mlockall(MCL_CURRENT | MCL_FUTURE) == 0);
  const uint64_t before = status_kib("VmRSS") << 10;
  while (held.held() < (72u << 20)) NEED(held.take(1 << 20, gfp::kernel));
  const uint64_t after = status_kib("VmRSS") << 10;
  fact("grown", after - before);
  NEED(after - before < (24u << 20));
  held.give_all();
  check_valid();
}

/// No file at all can be opened: no /proc, no /sys.
void command_no_files(const char*) {
  const int calls[] = {SYS_open, SYS_openat, SYS_openat2, SYS_stat, SYS_newfstatat, SYS_readlink, SYS_readlinkat, SYS_access};
  refuse_calls(calls, 8, ENOENT);
  serve(1);
  check_valid();
  print_budget();
}

/// The same with nothing mounted there. Exit 77: the system permits no mount namespace.
void command_empty_proc_and_sys(const char*) {
  if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) _exit(77);
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) _exit(77);
  if (mount("none", "/proc", "tmpfs", 0, nullptr) != 0 || mount("none", "/sys", "tmpfs", 0, nullptr) != 0) _exit(77);
  NEED(access("/proc/self", F_OK) != 0);
  serve(1);
  check_valid();
  print_budget();
}

void close_everything() {
  for (int fd = 0; fd < 1024; ++fd) close(fd);
}

/// A daemon closes all descriptors and opens files of its own under the same numbers.
void command_daemon(const char* log) {
  serve(1);
  holder held(8);
  NEED(held.take(200'000, gfp::kernel));
  auto* const area = static_cast<char*>(vmalloc(100'000));
  NEED(area != nullptr);
  memset(area, 7, 100'000);
  close_everything();
  const int first = open(log, O_RDWR | O_CREAT | O_TRUNC, 0600);
  for (int i = 0; i < 8; ++i) {
    const int fd = open(log, O_RDWR);
    if (fd < 0 || ftruncate(fd, 1 << 20) != 0) _exit(3);
  }
  if (dup2(first, 2) != 2 || dup2(first, 1) != 1) _exit(3);
  serve(2);
  for (int i = 0; i < 100'000; ++i) NEED(area[i] == 7);
  vfree(area);
  NEED(exhaust() != 0);
  held.give_all();
  serve(3);
  check_valid();
  char bytes[4096];
  for (int offset = 1 << 16; offset < 1 << 20; offset += 4096) {
    NEED(pread(first, bytes, sizeof bytes, offset) == sizeof bytes);
    NEED(is_zero(bytes, sizeof bytes));
  }
}

void command_exec(const char* program) {
  serve(1);
  void* const kept = kmalloc(5000, gfp::kernel);
  NEED(kept != nullptr);
  execl(program, program, "serve", nullptr);
  NEED(!"exec failed");
}

void command_cpu(const char*) {
  serve(1);
  cpu_set_t all, one;
  NEED(sched_getaffinity(0, sizeof all, &all) == 0);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &all)) continue;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    NEED(sched_setaffinity(0, sizeof one, &one) == 0);
    serve(static_cast<uint64_t>(cpu) + 2);
  }
  std::thread threads[4];
  for (unsigned i = 0; i < 4; ++i) threads[i] = std::thread([i] { serve(100 + i); });
  for (std::thread& t : threads) t.join();
  check_valid();
}

// ---- threads ------------------------------------------------------------------------------------------------------------------------

struct thread_task {
  uint64_t seed;
  bool fails;
};

/// Also what needs most stack: a failure with its report, and a new cache.
void* thread_body(void* argument) {
  const auto* const task = static_cast<const thread_task*>(argument);
  serve(task->seed);
  if (task->fails) NEED(kmalloc(size_t{1} << 40, gfp::kernel) == nullptr && alloc_pages(gfp::kernel, 40) == nullptr);
  return nullptr;
}

void run_threads(unsigned n, size_t stack_bytes) {
  pthread_t threads[50];
  thread_task tasks[50];
  pthread_attr_t attributes;
  NEED(pthread_attr_init(&attributes) == 0);
  if (stack_bytes != 0) NEED(pthread_attr_setstacksize(&attributes, stack_bytes) == 0);
  for (unsigned i = 0; i < n; ++i) {
    tasks[i] = {i + 1, i % 10 == 0};
    NEED(pthread_create(&threads[i], &attributes, thread_body, &tasks[i]) == 0);
  }
  for (unsigned i = 0; i < n; ++i) NEED(pthread_join(threads[i], nullptr) == 0);
  pthread_attr_destroy(&attributes);
}

void command_small_stacks(const char* bytes) {
  run_threads(8, strtoull(bytes, nullptr, 10));
  // An allocation that has nothing left goes the whole chain and reports.
  struct body {
    static void* run(void*) {
      holder held(3);
      while (held.take(3000, gfp::kernel)) continue;
      held.give_all();
      return nullptr;
    }
  };
  pthread_t thread;
  pthread_attr_t attributes;
  NEED(pthread_attr_init(&attributes) == 0 && pthread_attr_setstacksize(&attributes, strtoull(bytes, nullptr, 10)) == 0);
  NEED(pthread_create(&thread, &attributes, body::run, nullptr) == 0 && pthread_join(thread, nullptr) == 0);
  check_valid();
}

void command_many_threads(const char*) {
  run_threads(20, 0);
  const uint64_t before = charged();
  memory_info first, last;
  NEED(read_memory_info(first));
  for (unsigned i = 0; i < 10; ++i) run_threads(20, 0);
  NEED(charged() == before);
  NEED(read_memory_info(last));
  // Arrays grow where it is hot; a page kept for each thread would be more than this.
  NEED(last.metadata_bytes <= first.metadata_bytes + (256 << 10));
  check_valid();
}

void command_threads(const char*) {
  serve(1);
  run_threads(8, 0);
  check_valid();
}

/// A kernel without restartable sequences and membarrier; the C library asks for the former at the start of the program.
void command_no_rseq(const char* program) {
  constexpr int calls[] = {SYS_membarrier, SYS_rseq};
  refuse_calls(calls, 2, ENOSYS);
  execl(program, program, "threads", nullptr);
  NEED(!"exec failed");
}

// ---- fork ---------------------------------------------------------------------------------------------------------------------------

int wait_for(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/// Threads allocate while children are forked: each serves and sees what was held; nothing it does is seen by the parent.
void command_fork(const char*) {
  holder held(50);
  for (unsigned i = 0; i < 300; ++i) NEED(held.take(40 + i * 13 % 5000, gfp::kernel));
  auto* const area = static_cast<char*>(vmalloc(50'000));
  NEED(area != nullptr);
  memset(area, 9, 50'000);
  std::atomic<bool> stop{false};
  std::thread threads[3];
  for (unsigned i = 0; i < 3; ++i)
    threads[i] = std::thread([&stop, i] {
      while (!stop) serve(i + 60);
    });
  for (unsigned i = 0; i < 25; ++i) {
    const pid_t child = fork();
    NEED(child >= 0);
    if (child == 0) {
      alarm(60);
      NEED(held.intact());
      held.overwrite(0);
      memset(area, 1, 50'000);
      vfree(area);
      serve(70 + i);
      run_threads(2, 0);
      check_valid();
      const pid_t grandchild = fork();
      if (grandchild == 0) {
        serve(80);
        check_valid();
        _exit(0);
      }
      _exit(wait_for(grandchild));
    }
    NEED(wait_for(child) == 0);
    NEED(held.intact());
  }
  stop = true;
  for (std::thread& t : threads) t.join();
  for (int i = 0; i < 50'000; ++i) NEED(area[i] == 9);
  vfree(area);
  held.give_all();
  check_valid();
}

/// A memfd's memory is one for both.
void command_fork_shared(const char*) {
  auto* const p = static_cast<char*>(kmalloc(5000, gfp::kernel));
  NEED(p != nullptr);
  memset(p, 1, 5000);
  kmem_cache* const cache = kmem_cache_create("shared", 96, 0, cache_flags::no_merge);
  NEED(cache != nullptr);
  void* const object = kmem_cache_alloc(cache, gfp::kernel);
  page* const pages = alloc_pages(gfp::kernel, 2);
  NEED(object != nullptr && pages != nullptr);
  memset(object, 3, 96);
  memset(page_address(pages), 4, page_bytes << 2);
  const pid_t child = fork();
  NEED(child >= 0);
  if (child == 0) {
    for (int i = 0; i < 5000; ++i) NEED(p[i] == 1);
    memset(p, 2, 5000);
    // Who allocated or freed here would do it behind the parent's back.
    NEED(kmalloc(100, gfp::kernel) == nullptr && kvmalloc(100'000, gfp::kernel) == nullptr && vmalloc(5000) == nullptr);
    NEED(alloc_pages(gfp::atomic, 0) == nullptr && get_zeroed_page(gfp::kernel) == nullptr);
    NEED(kmem_cache_alloc(cache, gfp::kernel) == nullptr && krealloc(p, 9000, gfp::kernel) == nullptr);
    kfree(p);
    kmem_cache_free(cache, object);
    free_pages(pages, 2);
    NEED(drain() == 0);
    NEED(init("mem=24M backing=anon", nullptr, 0));
    serve(90);
    check_valid();
    NEED(p[4999] == 2);
    _exit(0);
  }
  NEED(wait_for(child) == 0);
  for (int i = 0; i < 5000; ++i) NEED(p[i] == 2);
  for (int i = 0; i < 96; ++i) NEED(static_cast<char*>(object)[i] == 3);
  for (size_t i = 0; i < page_bytes << 2; ++i) NEED(static_cast<char*>(page_address(pages))[i] == 4);
  kmem_cache_free(cache, object);
  kmem_cache_destroy(cache);
  free_pages(pages, 2);
  kfree(p);
  serve(1);
  check_valid();
}

struct command {
  const char* name;
  void (*run)(const char* argument);
};

constexpr command commands[] = {{"serve", command_serve},
                                {"exhaust", command_exhaust},
                                {"exhaust_only", command_exhaust_only},
                                {"refused", command_refused},
                                {"init", command_init},
                                {"no_memory_calls", command_no_memory_calls},
                                {"no_memory_calls_later", command_no_memory_calls_later},
                                {"no_advice", command_no_advice},
                                {"little_address_space", command_little_address_space},
                                {"locked_before", command_locked_before},
                                {"locked_after", command_locked_after},
                                {"locked_then_grows", command_locked_then_grows},
                                {"no_files", command_no_files},
                                {"empty_proc_and_sys", command_empty_proc_and_sys},
                                {"daemon", command_daemon},
                                {"exec", command_exec},
                                {"cpu", command_cpu},
                                {"small_stacks", command_small_stacks},
                                {"many_threads", command_many_threads},
                                {"threads", command_threads},
                                {"no_rseq", command_no_rseq},
                                {"fork", command_fork},
                                {"fork_shared", command_fork_shared}};

}  // namespace

int main(int argc, char** argv) {
  alarm(120);  // a hang is a failure
  for (const command& c : commands)
    if (argc > 1 && strcmp(c.name, argv[1]) == 0) {
      c.run(argc > 2 ? argv[2] : nullptr);
      return 0;
    }
  fprintf(stderr, "helper: no such command\n");
  return 2;
}
