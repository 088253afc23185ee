// Files of reports: known to be writable before the replay, replaced only when complete.

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "tools/kmem/replay/output_file.hpp"

namespace kmem::tool::replay {
namespace {

class replay_output : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "kmem-output-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  std::string path(const char* name) const { return (directory_ / name).string(); }
  static std::string contents(const std::string& of) {
    std::ifstream in(of);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  std::size_t files() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(directory_), std::filesystem::directory_iterator()));
  }

 private:
  std::filesystem::path directory_;
};

TEST_F(replay_output, what_was_there_stays_until_the_new_is_complete) {
  std::ofstream(path("report")) << "earlier";
  ASSERT_EQ(chmod(path("report").c_str(), 0640), 0);
  std::string problem;
  {
    output_file file;
    ASSERT_TRUE(file.open(path("report"), problem)) << problem;
    EXPECT_EQ(contents(path("report")), "earlier");
    ASSERT_TRUE(file.commit(std::string(300'000, 'x'), problem)) << problem;
  }
  EXPECT_EQ(contents(path("report")).size(), 300'000u);
  EXPECT_EQ(files(), 1u);
  struct stat about {};
  ASSERT_EQ(stat(path("report").c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 0777, 0640u);
}

TEST_F(replay_output, without_a_commit_nothing_changes) {
  std::ofstream(path("report")) << "earlier";
  std::string problem;
  {
    output_file file;
    ASSERT_TRUE(file.open(path("report"), problem));
    EXPECT_EQ(files(), 1u);
  }
  EXPECT_EQ(contents(path("report")), "earlier");
  EXPECT_EQ(files(), 1u);
}

TEST_F(replay_output, a_new_file_has_the_usual_mode) {
  std::string problem;
  output_file file;
  ASSERT_TRUE(file.open(path("report"), problem));
  ASSERT_TRUE(file.commit("x", problem));
  const mode_t mask = umask(0);
  umask(mask);
  struct stat about {};
  ASSERT_EQ(stat(path("report").c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 0777, 0666u & ~mask);
}

TEST_F(replay_output, a_link_is_followed) {
  std::ofstream(path("real")) << "earlier";
  std::filesystem::create_symlink("real", path("link"));
  std::string problem;
  output_file file;
  ASSERT_TRUE(file.open(path("link"), problem));
  ASSERT_TRUE(file.commit("new", problem));
  EXPECT_EQ(contents(path("real")), "new");
  EXPECT_TRUE(std::filesystem::is_symlink(path("link")));
}

TEST_F(replay_output, says_what_is_wrong) {
  std::string problem;
  output_file file;
  EXPECT_FALSE(file.open(path("no/report"), problem));
  EXPECT_EQ(problem, path("no/report") + ": cannot be made: No such file or directory; make its directory first");
  EXPECT_FALSE(file.open(path("."), problem));
  EXPECT_EQ(problem, path(".") + ": cannot be written: Is a directory; name a file in it");
  EXPECT_FALSE(file.is_open());
}

TEST_F(replay_output, a_full_device_is_an_error) {
  std::string problem;
  output_file file;
  ASSERT_TRUE(file.open("/dev/full", problem)) << problem;
  EXPECT_FALSE(file.commit("x", problem));
  EXPECT_EQ(problem, "/dev/full: cannot be written: No space left on device");
}

}  // namespace
}  // namespace kmem::tool::replay
