#pragma once

// What is to be run: found as the shell would find it, and looked at before it is started, since the loader passes a preloaded library over
// in silence where it cannot be used.

#include <string>
#include <vector>

namespace kmem::tool::run {

struct program_file {
  std::string path;     // what exec gets
  std::string problem;  // not empty: it cannot be run under kmem
  int status = 0;       // with a problem: 127 not found, 126 found but not to be run
};
program_file find_program(const std::string& name);

// libkmem-malloc.so: beside this program's own folder, or where it is installed. Return: empty, with the places that were searched.
std::string find_library(std::string& searched);
// The same from the folder of the program.
std::string find_library_from(const std::string& program_folder, const std::string& installed_folder, std::string& searched);

}  // namespace kmem::tool::run
