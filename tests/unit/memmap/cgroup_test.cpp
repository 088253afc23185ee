// Limits found in trees of control groups as containers and hosts have them.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <string>
#include <vector>

#include "memmap/memmap.hpp"
#include "unit/memmap/fake_system.hpp"

namespace kmem {
namespace {

using test::mount1;
using test::mount2;
using test::other_mounts;

constexpr uint64_t mib = 1024 * 1024;
std::string mib_text(uint64_t n) { return std::to_string(n * mib); }

class CgroupTest : public testing::Test {
 protected:
  /// Limit and usage in MiB as "limit usage"; "none".
  std::string found() const {
    uint64_t usage = 12345;
    const uint64_t limit = cgroup_limit(system_.prefix(), usage);
    if (limit == 0) return usage == 0 ? "none" : "none, but usage " + std::to_string(usage);
    EXPECT_EQ(limit % mib, 0u);
    return std::to_string(limit / mib) + " " + std::to_string(usage / mib);
  }
  test::fake_system system_;
};

TEST_F(CgroupTest, Version2TightestInTheMiddle) {
  system_.proc("0::/a/b/c\n", std::string(other_mounts) + mount2);
  system_.make_directory("/sys/fs/cgroup");  // the root has no limit files
  system_.group2("/sys/fs/cgroup/a", mib_text(900), "max", 500 * mib);
  system_.group2("/sys/fs/cgroup/a/b", mib_text(200), "max", 100 * mib, 30 * mib);
  system_.group2("/sys/fs/cgroup/a/b/c", "max", "max", 60 * mib);
  EXPECT_EQ(found(), "200 70") << "inactive file cache left out";
}

TEST_F(CgroupTest, Version2TightestAtEitherEnd) {
  system_.proc("0::/a/b\n", mount2);
  system_.group2("/sys/fs/cgroup/a", mib_text(300), "max", 200 * mib);
  system_.group2("/sys/fs/cgroup/a/b", mib_text(100), "max", 50 * mib);
  EXPECT_EQ(found(), "100 50");
  system_.group2("/sys/fs/cgroup/a", mib_text(80), "max", 40 * mib);
  EXPECT_EQ(found(), "80 40");
  system_.group2("/sys/fs/cgroup/a", mib_text(100), "max", 70 * mib);
  EXPECT_EQ(found(), "100 70") << "of equal limits the one that is fuller";
}

TEST_F(CgroupTest, MemoryHighIsALimitToo) {
  system_.proc("0::/a\n", mount2);
  system_.group2("/sys/fs/cgroup/a", mib_text(300), mib_text(200));
  EXPECT_EQ(found(), "200 0");
  system_.group2("/sys/fs/cgroup/a", mib_text(100), mib_text(200));
  EXPECT_EQ(found(), "100 0");
  std::filesystem::remove(system_.prefix() + std::string("/sys/fs/cgroup/a/memory.max"));
  system_.group2("/sys/fs/cgroup/a", "", mib_text(200));
  EXPECT_EQ(found(), "200 0") << "a file may be missing";
}

TEST_F(CgroupTest, NoLimitAnywhere) {
  system_.proc("0::/a/b\n", mount2);
  system_.group2("/sys/fs/cgroup/a", "max", "max", 5 * mib);
  system_.group2("/sys/fs/cgroup/a/b", "max", "max", 5 * mib);
  EXPECT_EQ(found(), "none");
}

TEST_F(CgroupTest, RootOfANamespaceHasFilesAtTheMountPoint) {
  system_.proc("0::/\n", mount2);
  system_.group2("/sys/fs/cgroup", mib_text(512), "max", 100 * mib);
  EXPECT_EQ(found(), "512 100");
}

TEST_F(CgroupTest, MountOfAPartOfTheHierarchy) {
  const std::string mount = "40 23 0:26 /docker/abc /sys/fs/cgroup ro,relatime - cgroup2 cgroup rw\n";
  system_.proc("0::/docker/abc/inner\n", mount);
  system_.group2("/sys/fs/cgroup", mib_text(512));
  system_.group2("/sys/fs/cgroup/inner", mib_text(256));
  EXPECT_EQ(found(), "256 0");
  system_.proc("0::/docker/abcdef\n", mount);
  system_.group2("/sys/fs/cgroup/docker", mib_text(1));
  EXPECT_EQ(found(), "1 0") << "/docker/abcdef is not inside /docker/abc: its path is tried as it is";
}

TEST_F(CgroupTest, MountThatShowsTheGroupIsPreferred) {
  const std::string mounts =
      "40 23 0:26 /other /mnt/first rw - cgroup2 cgroup rw\n"
      "41 23 0:26 /mine /mnt/my\\040place rw - cgroup2 cgroup rw\n";
  system_.proc("0::/mine/deep\n", mounts);
  system_.group2("/mnt/first", mib_text(100));
  system_.group2("/mnt/my place/deep", mib_text(300));
  EXPECT_EQ(found(), "300 0") << "and blanks in mount points are written in octal";
}

TEST_F(CgroupTest, PathThatIsNotVisibleIsWalkedUp) {
  system_.proc("0::/system.slice/gone.service/x\n", mount2);
  system_.group2("/sys/fs/cgroup/system.slice", mib_text(128));
  EXPECT_EQ(found(), "128 0");
  system_.proc("0::/a/b (deleted)\n", mount2);
  system_.group2("/sys/fs/cgroup/a", mib_text(64));
  EXPECT_EQ(found(), "64 0");
}

TEST_F(CgroupTest, GroupOutsideTheNamespaceSeesTheMountPointOnly) {
  system_.proc("0::/../../elsewhere\n", mount2);
  system_.group2("/sys/fs/cgroup", mib_text(96));
  system_.group2("/sys/fs/elsewhere", mib_text(1));
  system_.group2("/sys/fs/cgroup/elsewhere", mib_text(1));
  system_.group2("/elsewhere", mib_text(1));
  EXPECT_EQ(found(), "96 0");
}

TEST_F(CgroupTest, Version1) {
  system_.proc("5:cpu,cpuacct:/c\n4:memory:/docker/abc\n1:name=systemd:/x\n", std::string(other_mounts) + mount1);
  system_.group1("/sys/fs/cgroup/memory", "9223372036854771712", 900 * mib);
  system_.group1("/sys/fs/cgroup/memory/docker", "9223372036854771712", 500 * mib);
  system_.group1("/sys/fs/cgroup/memory/docker/abc", mib_text(256), 100 * mib, 20 * mib);
  EXPECT_EQ(found(), "256 80");
  system_.group1("/sys/fs/cgroup/memory/docker", mib_text(128), 90 * mib);
  EXPECT_EQ(found(), "128 90");
  system_.group1("/sys/fs/cgroup/memory/docker", "9223372036854775807");
  system_.group1("/sys/fs/cgroup/memory/docker/abc", "9223372036854771712");
  EXPECT_EQ(found(), "none") << "unlimited is a large number";
}

TEST_F(CgroupTest, Version1ControllersThatShareAHierarchy) {
  system_.proc("4:cpu,memory:/g\n", "35 25 0:30 / /cg rw,relatime - cgroup cgroup rw,cpu,memory\n");
  system_.group1("/cg/g", mib_text(64));
  EXPECT_EQ(found(), "64 0");
  system_.proc("4:memoryx,xmemory:/g\n", "35 25 0:30 / /cg rw,relatime - cgroup cgroup rw,cpu,memory\n");
  EXPECT_EQ(found(), "none") << "only the controller of that name";
}

TEST_F(CgroupTest, Version1LimitAboveTheMount) {
  // In a container the levels above its own group are not visible, but their limit counts.
  system_.proc("4:memory:/docker/abc\n", "35 25 0:30 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
  system_.group1("/sys/fs/cgroup/memory", mib_text(512), 50 * mib, 0, mib_text(300));
  EXPECT_EQ(found(), "300 50");
}

TEST_F(CgroupTest, HybridTakesTheTighterOne) {
  system_.proc("4:memory:/m\n0::/u\n", std::string(mount1) + "36 25 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
  system_.make_directory("/sys/fs/cgroup/unified/u");  // no memory controller there
  system_.group1("/sys/fs/cgroup/memory/m", mib_text(256));
  EXPECT_EQ(found(), "256 0");
  system_.group2("/sys/fs/cgroup/unified/u", mib_text(128));
  EXPECT_EQ(found(), "128 0");
}

TEST_F(CgroupTest, NothingThere) { EXPECT_EQ(found(), "none"); }

TEST_F(CgroupTest, WithoutMountinfoTheUsualPlacesAreTried) {
  system_.write("/proc/self/cgroup", "0::/a\n4:memory:/b\n");
  system_.group2("/sys/fs/cgroup/a", mib_text(200));
  EXPECT_EQ(found(), "200 0");
  system_.group1("/sys/fs/cgroup/memory/b", mib_text(100));
  EXPECT_EQ(found(), "100 0");
}

TEST_F(CgroupTest, WithoutTheProcessesGroupTheMountPointsAreRead) {
  system_.write("/proc/self/mountinfo", mount2);
  system_.group2("/sys/fs/cgroup", mib_text(150));
  EXPECT_EQ(found(), "150 0");
}

TEST_F(CgroupTest, HierarchyThatIsNotMounted) {
  system_.proc("0::/a\n4:memory:/a\n", other_mounts);
  system_.group2("/sys/fs/cgroup/a", mib_text(200));
  EXPECT_EQ(found(), "none");
}

TEST_F(CgroupTest, GarbageIsPassedOver) {
  system_.proc("0::/a/b\n", mount2);
  system_.group2("/sys/fs/cgroup/a", mib_text(200), "max", 10 * mib);
  for (const std::string text : {"", "maximum", "-1", "12x", "1 2", "0x100", "\n", "99999999999999999999999999"}) {
    system_.group2("/sys/fs/cgroup/a/b", text.empty() ? "\n" : text, "max");
    EXPECT_EQ(found(), "200 10") << text;
  }
  system_.make_directory("/sys/fs/cgroup/a/b/memory.high.d");
  std::filesystem::remove(system_.prefix() + std::string("/sys/fs/cgroup/a/b/memory.max"));
  system_.make_directory("/sys/fs/cgroup/a/b/memory.max");
  EXPECT_EQ(found(), "200 10") << "a file that cannot be read";
  system_.write("/sys/fs/cgroup/a/memory.current", "garbage\n");
  EXPECT_EQ(found(), "200 0");
  for (const std::string& text : std::vector<std::string>{"", "\n\n", "0", "0::", "0::relative", ":::", "0:memory",
                                                          std::string(100'000, 'x'), std::string("0\0::/a", 6)}) {
    system_.write("/proc/self/cgroup", text);
    EXPECT_EQ(found(), "none") << text.substr(0, 20);
  }
  system_.write("/proc/self/cgroup", "0::/a\n");
  for (const std::string text : {"", "\n", "1 2 3", "1 2 3 / /sys/fs/cgroup rw cgroup2 cgroup2 rw\n", "1 2 3 / /sys/fs/cgroup rw - \n"}) {
    system_.write("/proc/self/mountinfo", text);
    EXPECT_EQ(found(), "none") << text;
  }
}

TEST_F(CgroupTest, ZeroIsALimitAndNotNone) {
  system_.proc("0::/a\n", mount2);
  system_.group2("/sys/fs/cgroup/a", "0");
  uint64_t usage = 0;
  EXPECT_EQ(cgroup_limit(system_.prefix(), usage), 1u);
}

TEST_F(CgroupTest, VeryLongPaths) {
  std::string path;
  for (int i = 0; i < 60; ++i) path += "/" + std::string(60, static_cast<char>('a' + i % 26));
  system_.proc("0::" + path + "\n", mount2);
  system_.group2("/sys/fs/cgroup/" + std::string(60, 'a'), mib_text(70));
  EXPECT_EQ(found(), "70 0");
  system_.proc("0::" + path + path + "\n", mount2);
  EXPECT_EQ(found(), "none") << "longer than any path can be";
  system_.proc("0::/a\n", std::string(2'000'000, 'm') + "\n" + mount2);
  system_.group2("/sys/fs/cgroup/a", mib_text(70));
  EXPECT_EQ(found(), "none") << "more mounts than are read";
}

TEST(CgroupRealTest, TheProcessesOwnGroupCanBeRead) {
  uint64_t usage = 0;
  const uint64_t limit = cgroup_limit("", usage);
  if (limit == 0) {
    EXPECT_EQ(usage, 0u);
  } else {
    EXPECT_GT(limit, uint64_t{1} << 20) << "this process runs in less than 1 MiB";
  }
}

}  // namespace
}  // namespace kmem
