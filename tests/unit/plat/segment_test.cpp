// Shared memory of the statistics segment, as the system gives it.
#include <gtest/gtest.h>

#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>

#include <time.h>

#include "plat/plat.hpp"

namespace kmem {
namespace {

constexpr size_t size = 64 << 10;

// Columns of the row of this process's own segment of that size, newest last.
std::string last_row() {
  std::ifstream file("/proc/sysvipc/shm");
  std::string line, found;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    uint64_t key = 0, id = 0, mode = 0, bytes = 0, maker = 0;
    if (words >> key >> id >> mode >> bytes >> maker && bytes == size && maker == static_cast<uint64_t>(getpid())) found = line;
  }
  return found;
}

TEST(segment, is_zeroed_and_goes_with_the_process) {
  errno = 77;
  auto* const p = static_cast<char*>(plat::make_segment(size, nullptr, false));
  EXPECT_EQ(errno, 77);
  ASSERT_NE(p, nullptr);
  for (size_t i = 0; i < size; ++i) ASSERT_EQ(p[i], 0);
  EXPECT_NE(last_row().find(" 1600 "), std::string::npos) << last_row();  // marked for removal, for its owner only
  plat::drop_segment(p);
  EXPECT_EQ(last_row(), "");
}

TEST(segment, stays_if_it_is_to_be_kept) {
  void* const p = plat::make_segment(size, nullptr, true);
  ASSERT_NE(p, nullptr);
  plat::drop_segment(p);
  const std::string row = last_row();
  std::istringstream words(row);
  int key = 0, id = -1;
  ASSERT_TRUE(words >> key >> id) << row;
  EXPECT_EQ(shmctl(id, IPC_RMID, nullptr), 0);
  EXPECT_EQ(last_row(), "");
}

TEST(segment, takes_the_place_of_another_in_a_child) {
  auto* const p = static_cast<char*>(plat::make_segment(size, nullptr, false));
  ASSERT_NE(p, nullptr);
  p[0] = 1;
  const pid_t child = fork();
  if (child == 0) {
    auto* const own = static_cast<char*>(plat::make_segment(size, p, false));
    const bool good = own == p && own[0] == 0;
    own[0] = 2;
    _exit(good ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(p[0], 1);
  plat::drop_segment(p);
}

TEST(segment, a_page_is_wiped_in_every_child) {
  auto* const p = static_cast<int*>(plat::map_wiped_on_fork());
  ASSERT_NE(p, nullptr);
  *p = 1;
  const pid_t child = fork();
  if (child == 0) _exit(*p);
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(*p, 1);
  plat::unmap(p, page_size);
}

TEST(segment, the_process_knows_its_number_and_the_time) {
  EXPECT_EQ(plat::process_id(), static_cast<uint32_t>(getpid()));
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  const auto seconds = static_cast<uint64_t>(now.tv_sec);
  EXPECT_GE(plat::since_boot_ns(), seconds * 1'000'000'000);
}

TEST(segment, a_wait_for_two_words_ends_with_either) {
  uint32_t word = 0, shared = 5;
  plat::futex_wait_either(&word, 1, &shared, 5, ~uint64_t{0});  // the first differs
  plat::futex_wait_either(&word, 0, &shared, 4, ~uint64_t{0});  // the second
  plat::futex_wait_either(&word, 0, &shared, 5, 1'000'000);     // the time is over
  std::thread waker([&] {
    __atomic_store_n(&word, 1, __ATOMIC_RELEASE);
    plat::futex_wake(&word, 1);
  });
  while (__atomic_load_n(&word, __ATOMIC_ACQUIRE) == 0) plat::futex_wait_either(&word, 0, &shared, 5, ~uint64_t{0});
  waker.join();
}

}  // namespace
}  // namespace kmem
