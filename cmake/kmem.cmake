# How a layer, a test program and a check become targets. CMakeLists.txt says which ones exist.

set(KMEM_CORE_LAYERS arch plat base memmap page_alloc slab kmalloc vmalloc reclaim interrupt debug)
set(KMEM_FACES face_cxx face_malloc face_linux)

set(KMEM_WARNINGS -Wall -Wextra -Wconversion -Wundef -Werror)
# Reports walk the stack by frame pointers; the fast paths are leaves and keep the register.
set(KMEM_CORE_FLAGS -fno-exceptions -fno-rtti -fno-threadsafe-statics -fno-omit-frame-pointer -momit-leaf-frame-pointer)
if(CMAKE_CXX_COMPILER_ID MATCHES Clang)
  set(KMEM_SOURCE_WARNINGS -Wthread-safety -Werror=thread-safety -Wglobal-constructors -Wexit-time-destructors -Wunreachable-code)
else()
  set(KMEM_SOURCE_WARNINGS)
  list(APPEND KMEM_CORE_FLAGS -fno-gnu-unique)  # such symbols cannot be made local, and hold a library in memory
endif()

# Tools and tests use the whole C++ library, in whose std::string g++ 12 sees overlaps that cannot be (its bug 105651).
set(KMEM_HOSTED_WARNINGS ${KMEM_WARNINGS})
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  list(APPEND KMEM_HOSTED_WARNINGS -Wno-restrict)
  if(KMEM_SANITIZE)  # in instrumented std::function moves of std::regex (its bug 105562)
    list(APPEND KMEM_HOSTED_WARNINGS -Wno-maybe-uninitialized)
  endif()
elseif(CMAKE_CXX_COMPILER_VERSION VERSION_GREATER_EQUAL 17)
  list(APPEND KMEM_HOSTED_WARNINGS -Wno-deprecated-declarations)  # std::stable_sort of libstdc++ 12 uses what it calls deprecated itself
endif()

# Sources of a layer for one platform (linux or sim): everything below its folder but for the other platform and other machines.
function(kmem_layer_sources out layer platform)
  file(GLOB_RECURSE found CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/src/${layer}/*.cpp" "${PROJECT_SOURCE_DIR}/src/${layer}/*.S")
  if(platform STREQUAL "linux")
    list(FILTER found EXCLUDE REGEX "/src/${layer}/sim/")
  else()
    list(FILTER found EXCLUDE REGEX "/src/${layer}/linux/")
  endif()
  if(layer STREQUAL "arch")
    list(FILTER found INCLUDE REGEX "/src/arch/([^/]+$|${CMAKE_SYSTEM_PROCESSOR}/)")
  endif()
  set(${out} "${found}" PARENT_SCOPE)
endfunction()

# Object library kmem_<layer> (platform linux) or kmem_<layer>_sim. A layer without sources has no target.
function(kmem_add_layer layer platform)
  kmem_layer_sources(sources ${layer} ${platform})
  if(NOT sources)
    return()
  endif()
  set(target kmem_${layer})
  if(platform STREQUAL "sim")
    set(target kmem_${layer}_sim)
  endif()
  add_library(${target} OBJECT ${sources})
  target_include_directories(${target} PRIVATE "${PROJECT_SOURCE_DIR}/src" "${PROJECT_SOURCE_DIR}/include")
  target_compile_options(${target} PRIVATE ${KMEM_WARNINGS} ${KMEM_SOURCE_WARNINGS} -ftls-model=initial-exec)
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:${KMEM_CORE_FLAGS}>)
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
  if(platform STREQUAL "sim")
    target_compile_definitions(${target} PRIVATE KMEM_SIM=1)
  endif()
endfunction()

# Existing targets among kmem_<layer><suffix> of the core up to and including a layer ("debug" for the whole core).
function(kmem_core_up_to out last suffix)
  set(result)
  foreach(layer IN LISTS KMEM_CORE_LAYERS)
    if(TARGET kmem_${layer}${suffix})
      list(APPEND result kmem_${layer}${suffix})
    endif()
    if(layer STREQUAL last)
      break()
    endif()
  endforeach()
  set(${out} "${result}" PARENT_SCOPE)
endfunction()

# Turns names of object libraries into their objects.
function(kmem_objects out)
  set(result)
  foreach(target IN LISTS ARGN)
    list(APPEND result "$<TARGET_OBJECTS:${target}>")
  endforeach()
  set(${out} "${result}" PARENT_SCOPE)
endfunction()

# How test programs run under a sanitizer. ThreadSanitizer's runtime needs its fixed address layout, which much address
# randomisation breaks; setarch switches it off where the system lets it.
set(KMEM_TEST_ENVIRONMENT "KMEM_SOURCE_DIR=${PROJECT_SOURCE_DIR}" "KMEM_BUILD_DIR=${PROJECT_BINARY_DIR}")
set(KMEM_TEST_LAUNCHER)
if(KMEM_SANITIZE MATCHES "address")
  list(APPEND KMEM_TEST_ENVIRONMENT "ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1:abort_on_error=0"
    "UBSAN_OPTIONS=print_stacktrace=1")
elseif(KMEM_SANITIZE MATCHES "thread")
  list(APPEND KMEM_TEST_ENVIRONMENT "TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:history_size=4")
  execute_process(COMMAND setarch -R true RESULT_VARIABLE KMEM_SETARCH_STATUS OUTPUT_QUIET ERROR_QUIET)
  if(KMEM_SETARCH_STATUS EQUAL 0)
    set(KMEM_TEST_LAUNCHER setarch -R)
  endif()
endif()

# A GoogleTest program, registered with ctest under its own name and the label "gtest".
#   kmem_add_test(NAME n SOURCES ... [OBJECTS object libraries] [LIBRARIES ...] [DEFINITIONS ...] [LABELS ...] [TIMEOUT s])
function(kmem_add_test)
  cmake_parse_arguments(arg "" "NAME;TIMEOUT" "SOURCES;OBJECTS;LIBRARIES;DEFINITIONS;LABELS" ${ARGN})
  kmem_objects(objects ${arg_OBJECTS})
  add_executable(${arg_NAME} ${arg_SOURCES} ${objects})
  set_target_properties(${arg_NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/tests")
  target_include_directories(${arg_NAME} PRIVATE "${PROJECT_SOURCE_DIR}/src" "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}/tests"
    "${PROJECT_SOURCE_DIR}")
  target_compile_options(${arg_NAME} PRIVATE ${KMEM_HOSTED_WARNINGS})
  target_compile_definitions(${arg_NAME} PRIVATE ${arg_DEFINITIONS})
  target_link_libraries(${arg_NAME} PRIVATE ${arg_LIBRARIES} GTest::gmock GTest::gtest GTest::gtest_main Threads::Threads ${CMAKE_DL_LIBS})
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 300)
  endif()
  add_test(NAME ${arg_NAME} COMMAND ${KMEM_TEST_LAUNCHER} "$<TARGET_FILE:${arg_NAME}>" WORKING_DIRECTORY "${PROJECT_BINARY_DIR}")
  set_tests_properties(${arg_NAME} PROPERTIES TIMEOUT ${arg_TIMEOUT} LABELS "gtest;${arg_LABELS}" ENVIRONMENT "${KMEM_TEST_ENVIRONMENT}")
  foreach(label IN LISTS arg_LABELS)
    add_dependencies(tests_${label} ${arg_NAME})
  endforeach()
endfunction()

# A test that is a command of its own, such as a check or a script; label first, then add_test's COMMAND.
function(kmem_add_command_test name label)
  add_test(NAME ${name} COMMAND ${ARGN} WORKING_DIRECTORY "${PROJECT_BINARY_DIR}")
  set_tests_properties(${name} PROPERTIES TIMEOUT 300 LABELS "${label}"
    ENVIRONMENT "KMEM_SOURCE_DIR=${PROJECT_SOURCE_DIR};KMEM_BUILD_DIR=${PROJECT_BINARY_DIR}")
endfunction()
