// A folder that plays the root of a file system: /proc and /sys of a container.
#pragma once
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace kmem::test {

class fake_system {
 public:
  fake_system() {
    std::string pattern = (std::filesystem::temp_directory_path() / "kmem-memmap-XXXXXX").string();
    root_ = mkdtemp(pattern.data()) != nullptr ? pattern : std::string();
    EXPECT_FALSE(root_.empty());
  }
  ~fake_system() { std::filesystem::remove_all(root_); }
  fake_system(const fake_system&) = delete;
  fake_system& operator=(const fake_system&) = delete;

  const char* prefix() const { return root_.c_str(); }

  void write(const std::string& path, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  void make_directory(const std::string& path) const { std::filesystem::create_directories(root_ + path); }

  /// A v2 group: limits as texts ("" for no such file), usage in bytes, of which `inactive` is file cache that the kernel would drop.
  void group2(const std::string& path, const std::string& max, const std::string& high = "max", uint64_t usage = 0,
              uint64_t inactive = 0) const {
    make_directory(path);
    if (!max.empty()) write(path + "/memory.max", max + "\n");
    if (!high.empty()) write(path + "/memory.high", high + "\n");
    write(path + "/memory.current", std::to_string(usage) + "\n");
    write(path + "/memory.stat",
          "anon 1\nfile 2\ninactive_anon 3\nactive_file 4\ninactive_file " + std::to_string(inactive) + "\nslab 5\n");
  }
  void group1(const std::string& path, const std::string& limit, uint64_t usage = 0, uint64_t inactive = 0,
              const std::string& hierarchical = "9223372036854771712") const {
    write(path + "/memory.limit_in_bytes", limit + "\n");
    write(path + "/memory.usage_in_bytes", std::to_string(usage) + "\n");
    write(path + "/memory.stat", "cache 1\ninactive_file 7\nhierarchical_memory_limit " + hierarchical + "\ntotal_inactive_file " +
                                     std::to_string(inactive) + "\n");
  }
  void proc(const std::string& groups, const std::string& mounts) const {
    write("/proc/self/cgroup", groups);
    write("/proc/self/mountinfo", mounts);
  }

 private:
  std::string root_;
};

inline constexpr char mount2[] = "29 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
inline constexpr char mount1[] = "35 25 0:30 / /sys/fs/cgroup/memory rw,relatime shared:15 - cgroup cgroup rw,memory\n";
inline constexpr char other_mounts[] =
    "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
    "23 22 0:21 / /sys rw,nosuid shared:2 - sysfs sysfs rw\n"
    "34 25 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:14 - cgroup cgroup rw,cpu,cpuacct\n";

}  // namespace kmem::test
