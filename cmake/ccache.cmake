# ccache when it is there. Paths are made relative, so that another clone of the repository finds the same objects.
find_program(KMEM_CCACHE ccache)
if(KMEM_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(KMEM_LAUNCHER "${CMAKE_COMMAND}" -E env "CCACHE_BASEDIR=${PROJECT_SOURCE_DIR}" CCACHE_NOHASHDIR=1 "${KMEM_CCACHE}")
  set(CMAKE_C_COMPILER_LAUNCHER ${KMEM_LAUNCHER})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${KMEM_LAUNCHER})
endif()
