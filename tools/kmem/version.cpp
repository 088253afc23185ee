#include "commands.hpp"

namespace kmem::tool {

const char* program_version() { return KMEM_VERSION; }

}  // namespace kmem::tool
