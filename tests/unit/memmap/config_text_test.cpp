// Every parameter is written as it can be read.
#include <gtest/gtest.h>

#include <string>

#include "memmap/memmap.hpp"

namespace kmem {
namespace {

std::string value_of(const machine_config& config, const char* name) {
  char text[200];
  text_writer out(text, sizeof text);
  EXPECT_TRUE(write_parameter(config, name, out)) << name;
  return text;
}

TEST(config_text, what_is_written_is_read_as_the_same) {
  for (const parameter_info& p : parameters()) {
    machine_config config, again;
    config_error error;
    ASSERT_TRUE(parse_config(p.example, config, error)) << error.text;
    const std::string before = value_of(machine_config{}, p.name), value = value_of(config, p.name);
    EXPECT_NE(value, before) << p.name << ": the example changes nothing";
    const std::string word = std::string(p.name) + "=" + value;
    ASSERT_TRUE(parse_config(word.c_str(), again, error)) << word << ": " << error.text;
    EXPECT_EQ(value_of(again, p.name), value);
  }
}

TEST(config_text, defaults_are_the_documented_ones) {
  for (const parameter_info& p : parameters()) EXPECT_EQ(value_of(machine_config{}, p.name), p.default_value) << p.name;
}

TEST(config_text, sizes_have_the_largest_unit_that_is_exact) {
  machine_config config;
  config_error error;
  ASSERT_TRUE(parse_config("mem=1536M span=4G stat=keep:123 vm.lowmem_reserve_ratio=1,2", config, error)) << error.text;
  EXPECT_EQ(value_of(config, "mem"), "1536M");
  EXPECT_EQ(value_of(config, "span"), "4G");
  EXPECT_EQ(value_of(config, "stat"), "keep:123");
  EXPECT_EQ(value_of(config, "vm.lowmem_reserve_ratio"), "1,2,32,0,0");
}

TEST(config_text, an_unknown_name_writes_nothing) {
  char text[20];
  text_writer out(text, sizeof text);
  EXPECT_FALSE(write_parameter(machine_config{}, "nonsense", out));
  EXPECT_EQ(out.length(), 0u);
}

}  // namespace
}  // namespace kmem
