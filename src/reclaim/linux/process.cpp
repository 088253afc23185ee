// The process's machine: found without a lock once it serves, set up by whoever needs it first.
//
// States.   fresh -> starting -> serving, or -> refused (a bad KMEM_CMDLINE, no address space), from where an explicit set-up may try
//           again. In the child of a fork serving -> inherited for a memfd, from where an explicit set-up makes a machine of its own.
//           Whoever becomes `starter` makes the step to `starting` and sets it up; others wait on the state word. A handler that
//           interrupts the starter's own thread cannot wait for it and gets no machine: it finds its thread's name, which is written
//           before the state and taken back after it.
// Contexts. Any: only raw system calls, no lock but the state word. Works before the C library's constructors, when `environ` is not set
//           yet: the environment then comes from /proc/self/environ.
// Forks.    A fork inside a fork of the same thread (from a signal handler) touches no lock: the outermost one has them, or is about to.
//           Its child finds them held by its own thread and runs on nested; it gets a machine of its own when the outermost fork ends.
// Ordering. pairs: machine_state - the starter's store releases the machine, every load that finds it serving acquires it.
//           pairs: machine_starter - a starter that gives up leaves what it wrote to the next one.
// Kernel.   KMEM_CMDLINE is the kernel's command line: a parameter that is not understood is an error here, since it would limit nothing.
// Tests.    tests/unit/face_cxx/process_test.cpp, tests/programs/preload_*.sh, environment_fork.py
#include <new>

#include "reclaim/reclaim.hpp"

extern "C" char** environ;

namespace kmem {
KMEM_BUILD_NAMESPACE {
constinit process_slot process{};

namespace {

constexpr uint64_t recheck_ns = 1'000'000'000;         // arbitrary: waiters look again even if nobody wakes them
constexpr size_t environment_bytes = size_t{4} << 20;  // more than the system lets a process start with by default

/// The fork handlers of this thread: others may fork, or set the machine up, at the same time. A signal handler that interrupts a fork
/// may fork itself, with all handlers, and its child goes on with the fork that was interrupted.
struct forking {
  uint32_t levels = 0;        // forks of this thread under way, each but the first inside the one before
  bool locked = false;        // the outermost one has taken the machine's locks; the inner ones touch none
  bool became_child = false;  // since then an inner one has returned in a child: it is made one when the outermost ends
};
constinit thread_local forking fork_now;
constinit fork_hooks fork_hooks_installed{};  // before main
constinit atomic<start_hook> start_hook_installed{nullptr};

uint32_t* state_word() noexcept { return reinterpret_cast<uint32_t*>(process.state.word()); }

/// What follows `NAME=` if an entry of the environment is that variable.
const char* value_of(const char* entry) noexcept {
  const char* name = "KMEM_CMDLINE=";
  while (*name != '\0')
    if (*entry++ != *name++) return nullptr;
  return entry;
}

/// Looks KMEM_CMDLINE up in /proc/self/environ, read to `buffer`.
const char* value_in(const char* buffer, long length) noexcept {
  for (const char* entry = buffer; entry < buffer + length;) {
    if (const char* const value = value_of(entry)) return value;
    while (*entry != '\0') ++entry;
    ++entry;
  }
  return nullptr;
}

/// Applies KMEM_CMDLINE. Return: false with `error` set when it is wrong.
bool read_cmdline(machine_config& config, config_error& error) noexcept {
  if (environ != nullptr) {
    for (char** entry = environ; *entry != nullptr; ++entry)
      if (const char* const value = value_of(*entry)) return parse_config(value, config, error);
    return true;
  }
  auto* const buffer = static_cast<char*>(plat::map_guarded(environment_bytes));
  if (buffer == nullptr || !plat::open(buffer, environment_bytes)) {
    if (buffer != nullptr) plat::unmap(buffer, environment_bytes);
    text_writer(error.text, sizeof error.text).str("cannot be read: the system gives no memory to read /proc/self/environ to");
    return false;
  }
  const long length = plat::read_file("/proc/self/environ", buffer, environment_bytes);
  const char* const value = length > 0 ? value_in(buffer, length) : nullptr;
  const bool right = value == nullptr || parse_config(value, config, error);
  plat::unmap(buffer, environment_bytes);
  return right;
}

/// Makes the step to `starting`. Return: true if this thread is the starter now, from the state `state`; else that is final for it.
bool become_starter(bool retry_refused, machine_state& state) noexcept {
  for (;;) {
    state = process.state.load_acquire();  // pairs: machine_state
    if (state == machine_state::serving) return false;
    if ((state == machine_state::refused || state == machine_state::inherited) && !retry_refused) return false;
    const task_context* starter = nullptr;
    if (process.starter.try_cmpxchg_acquire(starter, &current())) {  // pairs: machine_starter
      if (process.state.load_relaxed() != state) {  // somebody has started it, or has failed to, meanwhile
        process.starter.store_release(nullptr);     // pairs: machine_starter
        continue;
      }
      process.state.store_relaxed(machine_state::starting);
      return true;
    }
    if (starter == &current()) return false;
    plat::futex_wait(state_word(), static_cast<uint32_t>(state), recheck_ns);
  }
}

KMEM_COLD void report_inherited() noexcept {
  if (process.inherited_uses.fetch_add_relaxed(1) != 0) return;
  constexpr const char* text =
      "kmem: the child of a fork shares the memory of a memfd machine with its parent: allocations fail and frees are ignored here; "
      "use backing=anon, exec a program, or start a machine of its own by init()";
  printk(log_level::err, text, __builtin_strlen(text));
}

void finish_start(machine_state state) noexcept {
  const start_hook hook = start_hook_installed.load_relaxed();
  if (state == machine_state::serving && hook != nullptr) hook(process.object);
  process.state.store_release(state);      // pairs: machine_state
  process.starter.store_release(nullptr);  // pairs: machine_starter
  plat::futex_wake(state_word(), 0x7fffffff);
}

}  // namespace

machine* start_process_machine(config_defaults defaults) noexcept {
  machine_state state{};
  if (!become_starter(false, state)) {
    if (state == machine_state::inherited) report_inherited();
    return state == machine_state::serving ? &process.object : nullptr;
  }
  machine_config config;
  config_error error;
  const char* source = "kmem: KMEM_CMDLINE: ";
  if (defaults != nullptr) defaults(config);
  bool started = read_cmdline(config, error);
  if (started) {
    source = "kmem: cannot start: ";
    started = machine_init(process.object, config, error) == err::ok;
  }
  if (!started) {
    char text[320];
    text_writer line(text, sizeof text);
    line.str(source).str(error.text).str("; every allocation will fail");
    printk(log_level::err, text, line.length());
  }
  finish_start(started ? machine_state::serving : machine_state::refused);
  return started ? &process.object : nullptr;
}

err process_machine_init(const machine_config& config, config_error& error) noexcept {
  machine_state state{};
  if (!become_starter(true, state)) {
    text_writer(error.text, sizeof error.text)
        .str(state == machine_state::serving ? "the allocator is serving already: its budget is set before the first allocation"
                                             : "the allocator is being set up by this very thread");
    return state == machine_state::serving ? err::exist : err::busy;
  }
  // The parent's mappings stay: what they show may still be read.
  if (state == machine_state::inherited) new (&process.object) machine;
  const err result = machine_init(process.object, config, error);
  finish_start(result == err::ok ? machine_state::serving : machine_state::refused);
  return result;
}

namespace {

/// What every child is to know at once.
void note_child() noexcept {
  const machine_state state = process.state.load_relaxed();
  const task_context* const starter = process.starter.load_relaxed();
  if (starter != nullptr && starter != &current()) {  // a thread that is not in this process
    if (state == machine_state::starting) new (&process) process_slot{};
    process.starter.store_relaxed(nullptr);
  }
  if (state == machine_state::serving && process.object.config.kind == backing::memfd)
    process.state.store_release(machine_state::inherited);  // pairs: machine_state
}

void call(void (*hook)() noexcept) noexcept {
  if (hook != nullptr) hook();
}

void lock_for_fork() noexcept {
  call(fork_hooks_installed.prepare);
  while (process.state.load_acquire() == machine_state::starting && process.starter.load_relaxed() != &current())  // pairs: machine_state
    plat::futex_wait(state_word(), static_cast<uint32_t>(machine_state::starting), recheck_ns);
  if (process.state.load_acquire() == machine_state::serving) {  // pairs: machine_state
    machine_fork_prepare(process.object);
    fork_now.locked = true;
  }
  call(fork_hooks_installed.locked);
}

/// Undoes lock_for_fork(). An inner child of a memfd machine, too, must not touch what it shares with its parent.
void unlock_after_fork(bool child) noexcept {
  child = child || process.state.load_relaxed() == machine_state::inherited;
  call(child ? fork_hooks_installed.child : fork_hooks_installed.parent);
  if (fork_now.locked) {
    if (child)
      machine_fork_child(process.object);
    else
      machine_fork_parent(process.object);
    fork_now.locked = false;
  }
  call(fork_hooks_installed.end);
}

/// The end of the outermost fork. A handler that comes before `levels` is 0 leaves its child to this frame; one that comes later is an
/// outermost fork of its own.
void end_fork(bool child) noexcept {
  unlock_after_fork(child);
  for (;;) {
    fork_now.levels = 0;
    arch::compiler_barrier();
    if (!fork_now.became_child) return;
    fork_now.levels = 1;
    arch::compiler_barrier();
    fork_now.became_child = false;
    lock_for_fork();
    unlock_after_fork(true);
  }
}

}  // namespace

void set_start_hook(start_hook hook) noexcept { start_hook_installed.store_relaxed(hook); }

void set_fork_hooks(const fork_hooks& hooks) noexcept { fork_hooks_installed = hooks; }

// A fork while another thread sets the machine up waits for it. One that begins in between all the same leaves the child half a machine,
// which is made anew: what it had reserved is lost address space, nothing else.
void process_fork_prepare() noexcept {
  if (fork_now.levels++ != 0) return;
  arch::compiler_barrier();
  lock_for_fork();
}

void process_fork_parent() noexcept {
  if (fork_now.levels > 1)
    --fork_now.levels;
  else
    end_fork(false);
}

void process_fork_child() noexcept {
  note_child();
  if (fork_now.levels > 1) {
    fork_now.became_child = true;
    --fork_now.levels;
  } else {
    end_fork(true);
  }
}

}  // inline namespace
}  // namespace kmem
