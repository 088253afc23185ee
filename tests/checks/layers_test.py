"""scripts/layers on a good tree and on each mistake."""
import unittest
import tree


class Layers(tree.TreeTest):
    script = "layers"
    good = {
        "src/arch/arch.hpp": "#include <cstdint>\n",
        "src/plat/plat.hpp": '#include "arch/arch.hpp"\n',
        "src/plat/linux/plat_linux.cpp": '#include "plat/plat.hpp"\n#include <sys/mman.h>\n#include <linux/futex.h>\n',
        "src/base/base.hpp": '#include "base/atomic.hpp"\n#include "plat/plat.hpp"\n#include <kmem/gfp.hpp>\n',
        "src/base/atomic.hpp": "#include <atomic>\n",
        "src/slab/slab.hpp": '#include "base/base.hpp"\n#include "slab/array.hpp"\n',
        "src/slab/array.hpp": "#include <span>\n// #include \"reclaim/reclaim.hpp\"\n/*\n#include \"reclaim/reclaim.hpp\"\n*/\n",
        "src/face_cxx/face.cpp": '#include "slab/slab.hpp"\n#include <memory_resource>\n',
        "include/kmem/gfp.hpp": "#include <stdint.h>\n#include <kmem/other.hpp>\n",
        "tools/kmem/main.cpp": "#include <kmem/gfp.hpp>\n#include <vector>\n#include \"trace/reader.hpp\"\n",
        "tests/unit/base/atomic_test.cpp": '#include "base/atomic.hpp"\n#include <gtest/gtest.h>\n',
        "tests/unit/slab/array_test.cpp": '#include "base/atomic.hpp"\n#include "slab/array.hpp"\n',
        "tests/unit/tools/report_test.cpp": '#include "kmem/report/json.hpp"\n',
    }

    def test_upward_include(self):
        self.finds({"src/base/up.hpp": '\n#include "slab/slab.hpp"\n'}, "src/base/up.hpp:2: base may not include slab")

    def test_reach_around_the_front_header(self):
        self.finds({"src/slab/x.cpp": '#include "base/atomic.hpp"\n'}, "src/slab/x.cpp:1: include base/base.hpp, the front header")

    def test_face_includes_face(self):
        self.finds({"src/face_malloc/x.cpp": '#include "face_cxx/face_cxx.hpp"\n'}, "faces do not see each other")

    def test_folder_that_is_no_layer(self):
        self.finds({"src/misc/x.hpp": "\n"}, "misc is not a layer")

    def test_file_outside_a_layer(self):
        self.finds({"src/x.hpp": "\n"}, "x.hpp is not a layer")

    def test_include_of_an_unknown_layer(self):
        self.finds({"src/slab/x.cpp": '#include "misc/misc.hpp"\n'}, "misc is not a layer")

    def test_relative_include(self):
        self.finds({"src/slab/x.cpp": '#include "../base/base.hpp"\n'}, "include by the path from src/")

    def test_angled_include_of_a_layer(self):
        self.finds({"src/slab/x.cpp": "#include <base/base.hpp>\n"}, "with quotes")

    def test_library_header_in_the_core(self):
        self.finds({"src/slab/x.cpp": "#  include <vector>\n"}, "src/slab/x.cpp:1: <vector> is not among")

    def test_system_header_outside_the_platform(self):
        self.finds({"src/slab/x.cpp": "#include <sys/mman.h>\n"}, "<sys/mman.h> is not among")

    def test_std_atomic_outside_its_home(self):
        self.finds({"src/slab/x.cpp": "#include <atomic>\n"}, "include base/atomic.hpp")

    def test_layer_without_front_header(self):
        self.finds({"src/vmalloc/x.cpp": '#include "base/base.hpp"\n'}, "without its front header vmalloc/vmalloc.hpp")

    def test_public_header_sees_src(self):
        self.finds({"include/kmem/x.hpp": "#include <base/base.hpp>\n"}, "src/ is not installed")

    def test_public_header_with_a_container(self):
        self.finds({"include/kmem/x.hpp": "#include <vector>\n"}, "may not include <vector>")

    def test_public_header_with_quotes(self):
        self.finds({"include/kmem/x.hpp": '#include "gfp.hpp"\n'}, "#include <kmem/...>")

    def test_tool_sees_src(self):
        self.finds({"tools/kmem/x.cpp": '#include "slab/slab.hpp"\n'}, "tools see only include/kmem")

    def test_unit_test_looks_up(self):
        self.finds({"tests/unit/base/x_test.cpp": '#include "slab/slab.hpp"\n'}, "base may not include slab")

    def test_unit_test_of_no_layer(self):
        self.finds({"tests/unit/misc/x_test.cpp": "\n"}, "tests/unit/misc is not the folder of a layer")


if __name__ == "__main__":
    unittest.main()
