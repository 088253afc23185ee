// Writing a report where the user asked for it.

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "tools/kmem/report/file.hpp"

namespace {

using kmem::tool::report::write_report;

class report_file : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = std::filesystem::temp_directory_path() / ("kmem-report-" + std::to_string(getpid()));
    std::filesystem::create_directory(directory_);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  std::string path(const char* name) const { return (directory_ / name).string(); }

 private:
  std::filesystem::path directory_;
};

TEST_F(report_file, replaces_what_was_there) {
  EXPECT_EQ(write_report(path("out"), std::string(3'000'000, 'x')), std::nullopt);
  EXPECT_EQ(write_report(path("out"), "short"), std::nullopt);
  std::ifstream in(path("out"));
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), "short");
}

TEST_F(report_file, says_what_is_wrong_and_what_to_do) {
  EXPECT_EQ(write_report(path("no/out"), "x"),
            "cannot write " + path("no/out") + ": No such file or directory; create its directory first");
  EXPECT_EQ(write_report(path(""), "x"), "cannot write " + path("") + ": Is a directory; name a file in it");
  EXPECT_EQ(write_report("/dev/full", "x"), "cannot write /dev/full: No space left on device; make room or choose another place");
}

}  // namespace
