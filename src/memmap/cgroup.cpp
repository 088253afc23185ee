// Finds the memory limits of the control groups that the process is in.
//
// What for. A container's limit ends in a kill, not in an error, so the budget has to stay below it.
// How.     /proc/self/cgroup names the group in each hierarchy (v2: "0::PATH"; v1: the line whose controllers include memory),
//          /proc/self/mountinfo says where the hierarchy is mounted and which part of it is visible there. From the group up to the mount
//          point every level is read. A level that cannot be read is passed over: the root has no limit file, a container may see only
//          the mount point under another path, and a group may have been removed. v1 also tells the limits of levels above the mount.
// States.  None: everything is read anew by each call.
// Locks.   None. Context: reads files; text goes to a mapping made for the call, since mountinfo can be large and stacks small.
// Ordering. None.
// Kernel.  memory.high throttles instead of killing, which for the program inside is a wall all the same: it counts as a limit.
// Tests.   tests/unit/memmap/cgroup_test.cpp
#include "memmap/internal.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

/// Buffers of one call. Sizes: a path has at most 4096 bytes; lines of /proc/self/cgroup are few; mountinfo of a busy host has
/// hundreds of lines (the rest is cut, of which the last line is not read).
struct buffers {
  char groups[32 << 10];
  char mounts[900 << 10];
  char path[3 * 4096];
  char value[16 << 10];  // a limit, or memory.stat
  char mount_point[4096];
  char group[4096];
  char root[4096];
};

size_t find(piece p, char c) noexcept {
  size_t i = 0;
  while (i < p.length && p.text[i] != c) ++i;
  return i;
}

/// Takes what comes before the next `separator` off the front of `rest`.
piece next(piece& rest, char separator) noexcept {
  const size_t end = find(rest, separator);
  const piece result{rest.text, end};
  rest = rest.from(end + 1);
  return result;
}

bool list_contains(piece list, const char* word) noexcept {
  while (list.length != 0)
    if (equal(next(list, ','), word)) return true;
  return false;
}

/// Copies a mountinfo field, in which blanks and backslashes are octal. Return: false if it does not fit.
bool decode(piece field, char* buffer, size_t capacity) noexcept {
  size_t out = 0;
  for (size_t i = 0; i < field.length; ++i) {
    char c = field[i];
    const auto digit = [&](size_t k) { return static_cast<unsigned>(field[i + k] - '0'); };
    if (c == '\\' && digit(1) < 4 && digit(2) < 8 && digit(3) < 8) {
      c = static_cast<char>(digit(1) * 64 + digit(2) * 8 + digit(3));
      i += 3;
    }
    if (out + 1 >= capacity) return false;
    buffer[out++] = c;
  }
  buffer[out] = '\0';
  return true;
}

/// Copies a group's path without a trailing slash, cut before a component ".." (a group outside the visible part).
bool copy_group(piece path, char* buffer, size_t capacity) noexcept {
  size_t out = 0;
  while (path.length != 0) {
    const piece component = next(path, '/');
    if (component.length == 0) continue;
    if (equal(component, "..")) break;
    if (out + component.length + 2 > capacity) return false;
    buffer[out++] = '/';
    for (size_t i = 0; i < component.length; ++i) buffer[out++] = component[i];
  }
  buffer[out] = '\0';
  return true;
}

/// What follows `root` in `group`, if `group` lies in it. Return: nullptr if it does not.
const char* below_root(const char* group, const char* root) noexcept {
  size_t n = whole(root).length;
  if (n == 1 && root[0] == '/') n = 0;
  for (size_t i = 0; i < n; ++i)
    if (group[i] != root[i]) return nullptr;
  return group[n] == '\0' || group[n] == '/' ? group + n : nullptr;
}

struct hierarchy {
  const char* limit_files[2];
  const char* usage_file;
  const char* inactive_key;      // of memory.stat
  const char* hierarchical_key;  // of memory.stat: the limit that counts, levels above the mount included; nullptr: not told
  const char* filesystem;
  const char* usual_mount_point;
};

constexpr hierarchy version2{{"/memory.max", "/memory.high"}, "/memory.current", "inactive_file", nullptr, "cgroup2", "/sys/fs/cgroup"};
constexpr hierarchy version1{{"/memory.limit_in_bytes", nullptr},
                             "/memory.usage_in_bytes",
                             "total_inactive_file",
                             "hierarchical_memory_limit",
                             "cgroup",
                             "/sys/fs/cgroup/memory"};

/// v1 writes "no limit" as the largest multiple of the page size that a signed number holds.
constexpr uint64_t unlimited = uint64_t{1} << 62;

/// A decimal number that fills its line, or "max". Return: false for anything else.
bool parse_number(const char* text, uint64_t& value) noexcept {
  if (text[0] == 'm' && text[1] == 'a' && text[2] == 'x' && (text[3] == '\n' || text[3] == '\0')) {
    value = unlimited;
    return true;
  }
  size_t i = 0;
  uint64_t result = 0;
  for (; text[i] >= '0' && text[i] <= '9'; ++i) {
    if (i >= 20) return false;
    result = result > (~uint64_t{0} - 9) / 10 ? ~uint64_t{0} : result * 10 + static_cast<uint64_t>(text[i] - '0');
  }
  value = result < unlimited ? result : unlimited;
  return i != 0 && (text[i] == '\n' || text[i] == '\0');
}

class walker {
 public:
  walker(const char* prefix, buffers& b, const cgroup_visitor& visitor) noexcept : prefix_(prefix), b_(b), visitor_(visitor) {}

  void walk_all() noexcept {
    if (!read("/proc/self/cgroup", b_.groups, sizeof b_.groups)) {
      // Nothing is known about the group: inside a container the mount points themselves show its limits.
      walk_group(version2, piece{});
      walk_group(version1, piece{});
      return;
    }
    piece rest = whole(b_.groups);
    while (rest.length != 0) {
      piece path = next(rest, '\n');
      const piece id = next(path, ':');
      const piece controllers = next(path, ':');
      if (path[0] != '/') continue;
      if (equal(id, "0") && controllers.length == 0) walk_group(version2, path);
      if (list_contains(controllers, "memory")) walk_group(version1, path);
    }
  }

 private:
  bool read(const char* path, char* buffer, size_t capacity) noexcept {
    text_writer full(b_.path, sizeof b_.path);
    full.str(prefix_).str(path);
    if (full.length() >= sizeof b_.path) return false;
    return plat::read_file(b_.path, buffer, capacity) >= 0;
  }

  /// Finds where the group is visible and reads from there up to the mount point.
  void walk_group(const hierarchy& h, piece path) noexcept {
    if (!copy_group(path, b_.group, sizeof b_.group)) return;
    const char* below = b_.group;
    if (!read("/proc/self/mountinfo", b_.mounts, sizeof b_.mounts)) {
      decode(whole(h.usual_mount_point), b_.mount_point, sizeof b_.mount_point);
    } else if (!find_mount(h, below)) {
      return;
    }
    read_levels(h, below);
  }

  /// The mount of the hierarchy that shows the group; failing that, the first one of the hierarchy, under which the group's path is
  /// tried.
  bool find_mount(const hierarchy& h, const char*& below) noexcept {
    bool found = false;
    piece rest = whole(b_.mounts);
    while (rest.length != 0) {
      piece line = next(rest, '\n');
      for (int field = 0; field < 3; ++field) next(line, ' ');
      const piece root = next(line, ' ');
      const piece mount_point = next(line, ' ');
      while (line.length != 0 && !equal(next(line, ' '), "-")) continue;
      if (!equal(next(line, ' '), h.filesystem)) continue;
      next(line, ' ');
      if (&h == &version1 && !list_contains(line, "memory")) continue;
      if (!decode(root, b_.root, sizeof b_.root)) continue;
      const char* const inside = below_root(b_.group, b_.root);
      if (inside == nullptr && found) continue;
      if (!decode(mount_point, b_.mount_point, sizeof b_.mount_point)) continue;
      found = true;
      if (inside == nullptr) continue;
      below = inside;
      return true;
    }
    return found;
  }

  /// Reads one file of the level at `level` (length of the path in b_.path). Return: false if there is none or it makes no sense.
  bool read_level_file(size_t level, const char* file) noexcept {
    text_writer name(b_.path + level, sizeof b_.path - level);
    name.str(file);
    if (level + name.length() >= sizeof b_.path) return false;
    return plat::read_file(b_.path, b_.value, sizeof b_.value) > 0;
  }
  bool read_level_number(size_t level, const char* file, uint64_t& value) noexcept {
    return read_level_file(level, file) && parse_number(b_.value, value);
  }
  bool read_level_stat(size_t level, const char* key, uint64_t& value) noexcept {
    if (!read_level_file(level, "/memory.stat")) return false;
    piece rest = whole(b_.value);
    while (rest.length != 0) {
      piece line = next(rest, '\n');
      if (equal(next(line, ' '), key)) return line.length != 0 && parse_number(line.text, value);
    }
    return false;
  }

  void visit(const hierarchy& h, size_t level, uint64_t limit) noexcept {
    uint64_t usage = 0, inactive = 0;
    if (read_level_number(level, h.usage_file, usage) && read_level_stat(level, h.inactive_key, inactive))
      usage = usage > inactive ? usage - inactive : 0;
    visitor_.visit(visitor_.context, limit != 0 ? limit : 1, usage);
  }

  void read_levels(const hierarchy& h, const char* below) noexcept {
    text_writer path(b_.path, sizeof b_.path);
    path.str(prefix_).str(b_.mount_point);
    const size_t top = path.length();
    path.str(below);
    if (path.length() >= sizeof b_.path) return;
    uint64_t tightest = unlimited;
    for (size_t level = path.length();;) {
      uint64_t limit = unlimited;
      for (const char* file : h.limit_files) {
        uint64_t value = 0;
        if (file != nullptr && read_level_number(level, file, value) && value < limit) limit = value;
      }
      if (limit < tightest) tightest = limit;
      if (limit < unlimited) visit(h, level, limit);
      uint64_t effective = 0;
      if (h.hierarchical_key != nullptr && read_level_stat(level, h.hierarchical_key, effective) && effective < tightest) {
        tightest = effective;
        visit(h, level, effective);
      }
      if (level == top) break;
      while (level > top && b_.path[level] != '/') --level;
      if (level > top) --level;
      while (level > top && b_.path[level] != '/') --level;
    }
  }

  const char* const prefix_;
  buffers& b_;
  const cgroup_visitor& visitor_;
};

}  // namespace

void for_each_cgroup_limit(const char* path_prefix, const cgroup_visitor& visitor) noexcept {
  address_reservation memory = plat::reserve(round_up(sizeof(buffers), page_size), page_size, backing::anon);
  if (memory.base == nullptr || !plat::open(memory.base, round_up(sizeof(buffers), page_size))) {
    constexpr char message[] = "kmem: no address space to read the cgroup limits: they do not count";
    printk(log_level::warning, message, sizeof message - 1);
  } else {
    walker(path_prefix, *reinterpret_cast<buffers*>(memory.base), visitor).walk_all();
  }
  if (memory.base != nullptr) plat::release(memory);
}

uint64_t cgroup_limit(const char* path_prefix, uint64_t& usage_bytes) noexcept {
  struct tightest_limit {
    uint64_t limit = 0, usage = 0;
  } tightest;
  const auto visit = [](void* context, uint64_t limit, uint64_t usage) noexcept {
    auto& t = *static_cast<tightest_limit*>(context);
    if (t.limit == 0 || limit < t.limit || (limit == t.limit && usage > t.usage)) t = {limit, usage};
  };
  for_each_cgroup_limit(path_prefix, {&tightest, visit});
  usage_bytes = tightest.usage;
  return tightest.limit;
}

}  // inline namespace
}  // namespace kmem
