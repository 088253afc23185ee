// Every operator new and delete, with results in words that do not depend on who serves them: one line "what: result" each.
//
//   operators forms       all forms, sizes and alignments
//   operators exhaustion  bad_alloc, nullptr and new handlers where memory is limited
#include <sys/resource.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>

namespace {

using align = std::align_val_t;

struct form {
  const char* name;
  void* (*allocate)(size_t size, size_t alignment);
  void (*release)(void* p, size_t size, size_t alignment);
  bool aligned, nothrow;
};

// Called as functions: none of these may be left out by the compiler.
const form forms[] = {
    {"new, delete", [](size_t n, size_t) { return ::operator new(n); }, [](void* p, size_t, size_t) { ::operator delete(p); }, false,
     false},
    {"new, sized delete", [](size_t n, size_t) { return ::operator new(n); }, [](void* p, size_t n, size_t) { ::operator delete(p, n); },
     false, false},
    {"new[], delete[]", [](size_t n, size_t) { return ::operator new[](n); }, [](void* p, size_t, size_t) { ::operator delete[](p); },
     false, false},
    {"new[], sized delete[]", [](size_t n, size_t) { return ::operator new[](n); },
     [](void* p, size_t n, size_t) { ::operator delete[](p, n); }, false, false},
    {"nothrow new, delete", [](size_t n, size_t) { return ::operator new(n, std::nothrow); },
     [](void* p, size_t, size_t) { ::operator delete(p, std::nothrow); }, false, true},
    {"nothrow new[], delete[]", [](size_t n, size_t) { return ::operator new[](n, std::nothrow); },
     [](void* p, size_t, size_t) { ::operator delete[](p, std::nothrow); }, false, true},
    {"aligned new, delete", [](size_t n, size_t a) { return ::operator new(n, align(a)); },
     [](void* p, size_t, size_t a) { ::operator delete(p, align(a)); }, true, false},
    {"aligned new, sized delete", [](size_t n, size_t a) { return ::operator new(n, align(a)); },
     [](void* p, size_t n, size_t a) { ::operator delete(p, n, align(a)); }, true, false},
    {"aligned new[], delete[]", [](size_t n, size_t a) { return ::operator new[](n, align(a)); },
     [](void* p, size_t, size_t a) { ::operator delete[](p, align(a)); }, true, false},
    {"aligned new[], sized delete[]", [](size_t n, size_t a) { return ::operator new[](n, align(a)); },
     [](void* p, size_t n, size_t a) { ::operator delete[](p, n, align(a)); }, true, false},
    {"aligned nothrow new, delete", [](size_t n, size_t a) { return ::operator new(n, align(a), std::nothrow); },
     [](void* p, size_t, size_t a) { ::operator delete(p, align(a), std::nothrow); }, true, true},
    {"aligned nothrow new[], delete[]", [](size_t n, size_t a) { return ::operator new[](n, align(a), std::nothrow); },
     [](void* p, size_t, size_t a) { ::operator delete[](p, align(a), std::nothrow); }, true, true},
};

/// Return: what became of it, in words; `p` is the memory, if there is some.
const char* attempt(const form& f, size_t size, size_t alignment, void*& p) {
  p = nullptr;
  try {
    p = f.allocate(size, alignment);
  } catch (const std::bad_alloc& e) {
    return std::strcmp(e.what(), "std::bad_alloc") == 0 ? "bad_alloc" : "another bad_alloc";
  } catch (...) {
    return "another exception";
  }
  if (p == nullptr) return "nullptr";
  return reinterpret_cast<uintptr_t>(p) % alignment == 0 ? "memory" : "memory that is not aligned";
}

void try_sizes(const form& f, size_t alignment) {
  for (const size_t size : {size_t{0}, size_t{1}, size_t{8}, size_t{9}, size_t{24}, size_t{100}, size_t{4096}, size_t{5000}, size_t{70000},
                            size_t{1} << 20, size_t{1} << 47, size_t{PTRDIFF_MAX} - 4096}) {
    const size_t needed = f.aligned ? alignment : size >= 16 ? 16 : size >= 8 ? 8 : 1;
    void* p = nullptr;
    const char* const result = attempt(f, size, needed, p);
    std::printf("%s of %zu bytes, alignment %zu: %s\n", f.name, size, needed, result);
    if (p == nullptr) continue;
    std::memset(p, 0x5a, size);
    f.release(p, size, needed);
  }
}

struct alignas(128) wide {
  char bytes[128];
};

void try_expressions() {
  volatile long negative = -1;
  try {
    char* volatile p = new char[static_cast<size_t>(negative)];
    delete[] p;
    std::puts("new char[-1]: memory");
  } catch (const std::bad_array_new_length&) {
    std::puts("new char[-1]: bad_array_new_length");
  } catch (const std::bad_alloc&) {
    std::puts("new char[-1]: bad_alloc");
  }
  const auto one = std::make_unique<wide>();
  const auto many = std::make_unique<wide[]>(7);
  std::printf("wide objects: %lu %lu\n", reinterpret_cast<uintptr_t>(one.get()) % 128, reinterpret_cast<uintptr_t>(many.get()) % 128);
  for (const form& f : forms) f.release(nullptr, 0, 64);
  std::puts("delete of nullptr: nothing");
}

/// Takes memory by one form until it ends, gives it back, and does it again: the same must be had, but for what stays in caches.
void exhaust(const form& f, size_t size) {
  size_t taken[2] = {};
  const char* ends[2] = {};
  for (int round = 0; round < 2; ++round) {
    void** first = nullptr;  // a list through the blocks, since nothing else can be had
    for (;;) {
      void* p = nullptr;
      ends[round] = attempt(f, size, f.aligned ? 64 : 8, p);
      if (p == nullptr) break;
      std::memset(p, 1, size);
      *static_cast<void**>(p) = first;
      first = static_cast<void**>(p);
      ++taken[round];
    }
    while (first != nullptr) {
      void** const next = static_cast<void**>(*first);
      f.release(first, size, 64);
      first = next;
    }
  }
  const bool again = taken[1] >= taken[0] - taken[0] / 8 - 1, much = taken[0] * size >= size_t{4} << 20;
  std::printf("%s of %zu bytes until the end: %s, %s; %s; %s\n", f.name, size, ends[0], ends[1], much ? "more than 4 MiB" : "too little",
              again ? "as much again" : "less afterwards");
}

int handler_calls;
void* ballast[1 << 21];  // not allocated, and hardly touched
size_t nr_ballast;

void take_all(size_t size) {
  while (void* const p = ::operator new(size, std::nothrow)) ballast[nr_ballast++] = p;
}
void drop_ballast() {
  while (nr_ballast != 0) ::operator delete(ballast[--nr_ballast]);
}

template <class Handler>
void with_handler(const char* name, Handler handler) {
  handler_calls = 0;
  take_all(size_t{1} << 20);
  std::set_new_handler(handler);
  std::string result = "memory";
  try {
    ::operator delete(::operator new (size_t{2} << 20));
  } catch (const std::bad_alloc&) {
    result = "bad_alloc";
  } catch (const std::runtime_error& e) {
    result = e.what();
  }
  std::set_new_handler(nullptr);
  drop_ballast();
  std::printf("new with a handler that %s: %s after %d calls\n", name, result.c_str(), handler_calls);
}

void try_handlers() {
  with_handler("frees memory at its second call", [] {
    if (++handler_calls == 2) drop_ballast();
  });
  with_handler("removes itself at its third call", [] {
    if (++handler_calls == 3) std::set_new_handler(nullptr);
  });
  with_handler("throws bad_alloc", [] {
    ++handler_calls;
    throw std::bad_alloc();
  });
  take_all(size_t{1} << 20);
  handler_calls = 0;
  std::set_new_handler([] {
    ++handler_calls;
    throw std::bad_alloc();
  });
  for (const form& f : forms) {
    void* p = nullptr;
    const char* const result = attempt(f, size_t{2} << 20, 64, p);
    std::printf("%s with a handler that throws: %s\n", f.name, result);
    if (p != nullptr) f.release(p, size_t{2} << 20, 64);
  }
  std::set_new_handler(nullptr);
  drop_ballast();
  std::printf("calls of that handler: %d\n", handler_calls);
}

/// Exceptions that carry memory of their own, thrown through frames that free some, where there is none left.
void try_unwinding() {
  std::string text;
  int caught = 0;
  take_all(64);  // to the last byte
  for (int i = 0; i < 100; ++i) try {
      const std::unique_ptr<char[]> p(new char[100000]);
      text.assign(p.get(), 1);
    } catch (const std::bad_alloc&) {
      ++caught;
    }
  drop_ballast();
  std::printf("bad_alloc without a byte left: caught %d times\n", caught);
}

/// Whoever serves this program, and with whatever budget: it must not take all that the system has.
void limit_address_space() {
  rlimit limit = {};
  constexpr rlim_t most = rlim_t{1} << 30;
  if (getrlimit(RLIMIT_AS, &limit) != 0) std::abort();
  if (limit.rlim_cur <= most) return;
  limit.rlim_cur = most;
  if (setrlimit(RLIMIT_AS, &limit) != 0) std::abort();
}

}  // namespace

int main(int argc, char** argv) {
  static char buffer[1 << 16];
  std::setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
  if (argc == 2 && std::strcmp(argv[1], "forms") == 0) {
    for (const form& f : forms)
      if (f.aligned)
        for (size_t alignment = 1; alignment <= size_t{1} << 20; alignment *= 4) try_sizes(f, alignment);
      else
        try_sizes(f, 1);
    try_expressions();
  }
  if (argc == 2 && std::strcmp(argv[1], "exhaustion") == 0) {
    limit_address_space();
    for (const form& f : forms)
      for (const size_t size : {size_t{64}, size_t{3000}, size_t{100000}, size_t{1} << 20}) exhaust(f, size);
    try_handlers();
    try_unwinding();
  }
  return 0;
}
