/* Calls of malloc's whole interface with results in words that do not depend on who serves them: one line "call: result" each.
 *
 *   calls table        every function, with sizes, alignments and edge cases
 *   calls owners       which library each function is from
 *   calls faults       random calls while allocations fail at random; at least one must
 *   calls info FILE    malloc_info to FILE, malloc_stats to stderr
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define MARK 4444 /* no call sets errno to this */

typedef unsigned char byte;

#define MIB ((size_t)1 << 20)
#define BIT(n) ((size_t)1 << (n))

static const size_t sizes[] = {0,     1,     7,     8,     9,      15,     16,     17,   24,      25,      100,
                               127,   128,   129,   1000,  1024,   1025,   4095,   4096, 4097,    8192,    20000,
                               32767, 32768, 32769, 65536, 131071, 131072, 200000, MIB,  MIB + 1, 5 * MIB, 33 * MIB};
static const size_t impossible[] = {BIT(47), BIT(62),         PTRDIFF_MAX - 4096, PTRDIFF_MAX - 16, PTRDIFF_MAX,
                                    BIT(63), SIZE_MAX - 4096, SIZE_MAX - 15,      SIZE_MAX};
static const size_t alignments[] = {0,     1,     2,   3,       4,       5,       6,        7,       8,           9,       12,   16,
                                    24,    32,    48,  64,      100,     128,     256,      1000,    1024,        2048,    4096, 8192,
                                    12288, 65536, MIB, 2 * MIB, 4 * MIB, 8 * MIB, 64 * MIB, BIT(63), BIT(63) + 1, SIZE_MAX};
static const size_t aligned_sizes[] = {0, 1, 8, 17, 100, 4096, 5000, 100000, MIB, BIT(47), PTRDIFF_MAX, SIZE_MAX - 4096, SIZE_MAX};

static const char* error_name(int error) {
  return error == MARK ? "kept" : error == ENOMEM ? "ENOMEM" : error == EINVAL ? "EINVAL" : error == 0 ? "0" : "another";
}

static size_t required_alignment(size_t size) { return size >= 16 ? 16 : size >= 8 ? 8 : 1; }

static byte pattern(size_t i) { return (byte)(i * 37 + 11); }
static void fill(byte* p, size_t size) {
  for (size_t i = 0; i < size; i += i < 5000 ? 1 : 509) p[i] = pattern(i);
  if (size != 0) p[size - 1] = pattern(size - 1);
}
static int holds(const byte* p, size_t size, size_t written) {
  for (size_t i = 0; i < size; i += i < 5000 ? 1 : 509)
    if (p[i] != pattern(i)) return 0;
  return size != written || size == 0 || p[size - 1] == pattern(size - 1);
}

/* Says what is to be said of a block, and that all of what is usable can be written. */
static void say_block(byte* p, size_t size, size_t alignment) {
  const int error = errno;
  if (p == NULL) {
    printf("NULL, errno %s\n", error_name(error));
    return;
  }
  const size_t usable = malloc_usable_size(p);
  printf("a block%s%s, errno %s\n", (uintptr_t)p % alignment == 0 ? "" : " that is not aligned", usable >= size ? "" : " that is too small",
         error_name(error));
  memset(p, 0x77, usable);
}

static void test_malloc(size_t size) {
  errno = MARK;
  byte* p = malloc(size);
  printf("malloc(%zu): ", size);
  say_block(p, size, required_alignment(size));
  errno = MARK;
  free(p);
  printf("free after malloc(%zu): errno %s\n", size, error_name(errno));
}

static void test_calloc(size_t n, size_t size) {
  byte* const dirty = malloc(n * size < (1u << 20) ? n * size : 1);
  memset(dirty, 0xff, malloc_usable_size(dirty));
  free(dirty);
  errno = MARK;
  byte* p = calloc(n, size);
  printf("calloc(%zu, %zu): ", n, size);
  if (p != NULL)
    for (size_t i = 0; i < n * size; ++i)
      if (p[i] != 0) {
        printf("not cleared, ");
        break;
      }
  say_block(p, n * size, required_alignment(n * size));
  free(p);
}

static void test_realloc(size_t from, size_t to) {
  byte* old = malloc(from);
  const size_t kept = from < to ? from : to;
  fill(old, from);
  errno = MARK;
  byte* p = realloc(old, to);
  printf("realloc(%zu -> %zu): ", from, to);
  if (p == NULL && to != 0) printf("the old block is %s, ", holds(old, from, from) ? "as before" : "damaged");
  if (p != NULL) printf("%s, ", holds(p, kept, from) ? "contents kept" : "contents lost");
  say_block(p, to, required_alignment(to));
  if (p == NULL && to != 0) p = old;
  free(p);
}

static void test_reallocarray(size_t from, size_t n, size_t size) {
  byte* old = from == SIZE_MAX ? NULL : malloc(from);
  if (old != NULL) fill(old, from);
  errno = MARK;
  byte* p = reallocarray(old, n, size);
  printf("reallocarray(%zd, %zu, %zu): ", (ssize_t)from, n, size);
  const int freed = p == NULL && old != NULL && (n == 0 || size == 0);
  if (p == NULL && old != NULL && !freed) printf("the old block is %s, ", holds(old, from, from) ? "as before" : "damaged");
  say_block(p, n * size, required_alignment(n * size));
  free(p != NULL || freed ? p : old);
}

/* What memalign rounds its argument up to. */
static size_t power_of(size_t alignment) {
  size_t power = 1;
  while (power < alignment) power *= 2;
  return power;
}

static const char* kind_of(size_t alignment) {
  return alignment == 0 || (alignment & (alignment - 1)) != 0 ? " no power of two" : alignment > 4 * MIB ? " above 4 MiB" : "";
}

static void test_aligned(size_t alignment, size_t size) {
  const char* const kind = kind_of(alignment);
  errno = MARK;
  byte* p = aligned_alloc(alignment, size);
  printf("aligned_alloc(%zu%s, %zu): ", alignment, kind, size);
  say_block(p, size, p != NULL ? power_of(alignment) : 1);
  free(p);
  errno = MARK;
  p = memalign(alignment, size);
  printf("memalign(%zu%s, %zu): ", alignment, kind, size);
  say_block(p, size, p != NULL ? power_of(alignment) : 1);
  free(p);
  void* const before = &p;
  void* result = before;
  errno = MARK;
  const int code = posix_memalign(&result, alignment, size), error = errno;
  printf("posix_memalign(%zu%s, %zu): %s, ", alignment, kind, size, code == 0 ? "0" : error_name(code));
  if (code == 0) {
    say_block(result, size, alignment);
    free(result);
  } else {
    printf("the pointer is %s\n", result == before || result == NULL ? "as before or NULL" : "something else");
  }
  printf("errno after posix_memalign(%zu%s, %zu): %s\n", alignment, kind, size, error_name(error));
}

static void test_pages(size_t size) {
  errno = MARK;
  byte* p = valloc(size);
  printf("valloc(%zu): ", size);
  say_block(p, size, p != NULL ? 4096 : 1);
  free(p);
  errno = MARK;
  p = pvalloc(size);
  printf("pvalloc(%zu): ", size);
  say_block(p, (size + 4095) / 4096 * 4096, p != NULL ? 4096 : 1);
  free(p);
}

static void test_unique(void) {
  void* held[300];
  int equal = 0;
  for (size_t i = 0; i < COUNT(held); ++i) {
    held[i] = i % 3 == 0 ? malloc(0) : i % 3 == 1 ? calloc(0, 5) : aligned_alloc(64, 0);
    for (size_t k = 0; k < i; ++k) equal += held[i] == held[k];
  }
  for (size_t i = 0; i < COUNT(held); ++i) free(held[i]);
  printf("300 blocks of 0 bytes: %d are equal to another\n", equal);
}

static void test_mallopt(const char* name, int parameter, int value) {
  printf("mallopt(%s, %d): %d\n", name, value, mallopt(parameter, value));
}

/* What old programs call, which no new one can be linked with dynamically. */
#if defined(STATIC)
extern void cfree(void* p);
#define old_cfree cfree
#elif defined(__x86_64__)
__asm__(".symver old_cfree, cfree@GLIBC_2.2.5");
extern void old_cfree(void* p);
#else
#define old_cfree free
#endif

/* What not every C library has. */
extern void free_sized(void* p, size_t size) __attribute__((weak));
extern void free_aligned_sized(void* p, size_t alignment, size_t size) __attribute__((weak));

static size_t in_use(void) { return mallinfo2().uordblks + mallinfo2().hblkhd; }

/* Frees that are not called free: does the memory come back? */
static void test_frees(void) {
  const size_t size = 50000;
  void* blocks[20];
  size_t before = in_use();
  for (size_t i = 0; i < COUNT(blocks); ++i) blocks[i] = malloc(size);
  for (size_t i = 0; i < COUNT(blocks); ++i) old_cfree(blocks[i]);
  old_cfree(NULL);
  printf("cfree: %s\n", in_use() < before + 5 * size ? "the memory came back" : "the memory is lost");
  if (free_sized == NULL || free_aligned_sized == NULL) {
    printf("free_sized, free_aligned_sized: do not exist\n");
    return;
  }
  before = in_use();
  for (size_t i = 0; i < COUNT(blocks); ++i) blocks[i] = i % 2 ? malloc(size) : aligned_alloc(256, size);
  for (size_t i = 0; i < COUNT(blocks); ++i) i % 2 ? free_sized(blocks[i], size) : free_aligned_sized(blocks[i], 256, size);
  printf("free_sized, free_aligned_sized: %s\n", in_use() < before + 5 * size ? "the memory came back" : "the memory is lost");
}

static void test_figures(void) {
  printf("malloc_usable_size(NULL): %zu\n", malloc_usable_size(NULL));
  void* blocks[200];
  const struct mallinfo2 before = mallinfo2();
  for (size_t i = 0; i < COUNT(blocks); ++i) blocks[i] = malloc(1000);
  const struct mallinfo2 full = mallinfo2();
  printf("mallinfo2 sees 200 blocks of 1000 bytes: %d\n",
         full.uordblks >= before.uordblks + 180 * 1000 && full.uordblks <= before.uordblks + 300 * 1000);
  printf("mallinfo2: uordblks + fordblks = arena: %d\n", full.uordblks + full.fordblks == full.arena);
  for (size_t i = 0; i < COUNT(blocks); ++i) free(blocks[i]);
  const struct mallinfo2 after = mallinfo2();
  printf("mallinfo2 sees them go: %d\n", after.uordblks + 150 * 1000 < full.uordblks);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  const struct mallinfo narrow = mallinfo();
#pragma GCC diagnostic pop
  printf("mallinfo agrees: %d\n", (size_t)narrow.uordblks == mallinfo2().uordblks);
  const int given = malloc_trim(0);
  printf("malloc_trim(0): %s\n", given == 0 || given == 1 ? "0 or 1" : "something else");
  printf("malloc_info with an option: %s\n", error_name(malloc_info(1, stdout)));
}

static void table(void) {
  for (size_t i = 0; i < COUNT(sizes); ++i) test_malloc(sizes[i]);
  for (size_t i = 0; i < COUNT(impossible); ++i) test_malloc(impossible[i]);
  for (size_t n = 0; n < 40; n += 13)
    for (size_t i = 0; i < COUNT(sizes); ++i)
      if (sizes[i] <= 200000) test_calloc(n, sizes[i]);
  static const size_t products[][2] = {{SIZE_MAX, 2},        {2, SIZE_MAX},    {BIT(32), BIT(32)}, {SIZE_MAX / 2, 3},
                                       {0, SIZE_MAX},        {SIZE_MAX, 0},    {1, SIZE_MAX},      {SIZE_MAX, 1},
                                       {SIZE_MAX, SIZE_MAX}, {1, PTRDIFF_MAX}, {BIT(40), BIT(10)}, {BIT(33) + 1, BIT(31)}};
  for (size_t i = 0; i < COUNT(products); ++i) {
    test_calloc(products[i][0], products[i][1]);
    test_reallocarray(SIZE_MAX, products[i][0], products[i][1]);
    test_reallocarray(100, products[i][0], products[i][1]);
  }
  test_reallocarray(100, 3, 50);
  test_reallocarray(100000, 3, 50);
  test_reallocarray(SIZE_MAX, 3, 50);
  for (size_t i = 0; i < COUNT(sizes); ++i) {
    for (size_t k = 0; k < COUNT(sizes); ++k) test_realloc(sizes[i], sizes[k]);
    for (size_t k = 0; k < COUNT(impossible); ++k) test_realloc(sizes[i], impossible[k]);
  }
  for (size_t i = 0; i < COUNT(alignments); ++i)
    for (size_t k = 0; k < COUNT(aligned_sizes); ++k) test_aligned(alignments[i], aligned_sizes[k]);
  for (size_t i = 0; i < COUNT(sizes); ++i) test_pages(sizes[i]);
  for (size_t i = 0; i < COUNT(impossible); ++i) test_pages(impossible[i]);
  errno = MARK;
  free(NULL);
  printf("free(NULL): errno %s\n", error_name(errno));
  test_unique();
  test_figures();
  test_frees();
  test_mallopt("M_MMAP_MAX", M_MMAP_MAX, 0);
  test_mallopt("M_MMAP_MAX", M_MMAP_MAX, 100);
  test_mallopt("M_ARENA_MAX", M_ARENA_MAX, 1);
  test_mallopt("M_ARENA_MAX", M_ARENA_MAX, 4);
  test_mallopt("M_PERTURB", M_PERTURB, 0);
  test_mallopt("M_PERTURB", M_PERTURB, 90);
  test_mallopt("M_PERTURB", M_PERTURB, 0);
  test_mallopt("M_CHECK_ACTION", M_CHECK_ACTION, 1);
  test_mallopt("M_CHECK_ACTION", M_CHECK_ACTION, 3);
  test_mallopt("M_TRIM_THRESHOLD", M_TRIM_THRESHOLD, 1 << 20);
  test_mallopt("M_TOP_PAD", M_TOP_PAD, 1 << 20);
  test_mallopt("M_MMAP_THRESHOLD", M_MMAP_THRESHOLD, 1 << 20);
  test_mallopt("M_ARENA_TEST", M_ARENA_TEST, 2);
  test_mallopt("M_MXFAST", M_MXFAST, 64);
  test_mallopt("M_MXFAST", M_MXFAST, 1 << 20);
}

#if !defined(STATIC)
static void owners(void) {
  static const char* const names[] = {
      "malloc",    "free",           "calloc",       "realloc",     "reallocarray", "memalign",          "aligned_alloc",
      "valloc",    "posix_memalign", "pvalloc",      "cfree",       "malloc_trim",  "mallinfo",          "malloc_usable_size",
      "mallinfo2", "mallopt",        "malloc_stats", "malloc_info", "free_sized",   "free_aligned_sized",
      "vfork"};
  for (size_t i = 0; i < COUNT(names); ++i) {
    void* const function = dlsym(RTLD_DEFAULT, names[i]);
    Dl_info info;
    const char* file = "nowhere";
    if (function != NULL && dladdr(function, &info) != 0) {
      const char* const slash = strrchr(info.dli_fname, '/');
      file = slash != NULL ? slash + 1 : info.dli_fname;
    }
    printf("%s: %s\n", names[i], file);
  }
}
#endif

static void broken(const char* what) {
  printf("broken: %s\n", what);
  exit(1);
}

/* The promises that hold whatever fails: ENOMEM with every NULL, and the old block as it was. */
static void faults(void) {
  static struct {
    byte* p;
    size_t size;
  } slots[500];
  unsigned long random = 1, failed = 0, served = 0;
  for (int step = 0; step < 30000; ++step) {
    random = random * 6364136223846793005ul + 1442695040888963407ul;
    const size_t slot = (random >> 33) % COUNT(slots);
    const size_t limit = (random >> 20) % 50 == 0 ? 300000 : 3000, size = (random >> 40) % limit + 1;
    byte* p = NULL;
    errno = MARK;
    switch ((random >> 27) % 4) {
      case 0:
        p = slots[slot].p == NULL ? malloc(size) : realloc(slots[slot].p, size);
        if (p == NULL && slots[slot].p != NULL && !holds(slots[slot].p, slots[slot].size, slots[slot].size))
          broken("realloc lost the old block");
        if (p != NULL && slots[slot].p != NULL && !holds(p, size < slots[slot].size ? size : slots[slot].size, slots[slot].size))
          broken("realloc lost the contents");
        break;
      case 1: {
        void* result = &p;
        const int code = posix_memalign(&result, 64, size);
        if (code != 0 && (code != ENOMEM || result != &p)) broken("posix_memalign");
        if (code != 0) errno = ENOMEM;
        free(slots[slot].p);
        p = code == 0 ? result : NULL;
        slots[slot].p = NULL;
        break;
      }
      case 2:
        p = calloc(1, size);
        if (p != NULL)
          for (size_t i = 0; i < size; ++i)
            if (p[i] != 0) broken("calloc");
        if (p != NULL) free(slots[slot].p);
        break;
      default:
        if (slots[slot].p != NULL && !holds(slots[slot].p, slots[slot].size, slots[slot].size)) broken("a block was changed");
        free(slots[slot].p);
        if (errno != MARK) broken("free changed errno");
        slots[slot].p = NULL;
        continue;
    }
    if (p == NULL) {
      ++failed;
      if (errno != ENOMEM) broken("NULL without ENOMEM");
      continue;
    }
    ++served;
    slots[slot].p = p;
    slots[slot].size = size;
    fill(p, size);
  }
  for (size_t i = 0; i < COUNT(slots); ++i) free(slots[i].p);
  if (failed == 0) broken("nothing failed");
  if (served == 0) broken("everything failed");
  printf("%lu failed, %lu served\n", failed, served);
}

int main(int argc, char** argv) {
  static char line_buffer[1 << 16]; /* so that the stream itself allocates nothing */
  setvbuf(stdout, line_buffer, _IOFBF, sizeof line_buffer);
  if (argc == 2 && strcmp(argv[1], "table") == 0) table();
#if !defined(STATIC)
  if (argc == 2 && strcmp(argv[1], "owners") == 0) owners();
#endif
  if (argc == 2 && strcmp(argv[1], "faults") == 0) faults();
  if (argc == 3 && strcmp(argv[1], "info") == 0) {
    for (int i = 1; i < 100; ++i) {
      free(malloc((size_t)i * 30));
      if (malloc((size_t)i * 30) == NULL) return 1;
    }
    FILE* const file = fopen(argv[2], "w");
    if (file == NULL || malloc_info(0, file) != 0 || fclose(file) != 0) return 1;
    malloc_stats();
  }
  return 0;
}
